"""`/admin/usage`: what was used, as the ledger has it."""

# No `from __future__ import annotations`: FastAPI could not resolve dependencies that are local values.

import time
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel

from serving.database import Reader
from serving.gateway.api.access import administrator
from serving.gateway.api.admin.audit import as_moment, read_ledger
from serving.gateway.api.admin.schemas import Plain
from serving.identity import Principal
from serving.identity.amounts import format_dollars
from serving.ledger.rollup import HOUR_S
from serving.ledger.usage import Group, RequestFilter, Usage, usage

DEFAULT_SPAN_S = 30 * 86400.0


class UsageRow(BaseModel):
    """What was used by one combination of what was asked for; days are UTC."""

    tenant: str | None = None
    key: str | None = None
    model: str | None = None
    day: str | None = None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: str


class UsageReport(BaseModel):
    """Usage in a span of time."""

    since: datetime
    until: datetime
    data: list[UsageRow]


def usage_routes(reports: Reader) -> APIRouter:
    """Sum up usage."""
    routes = APIRouter(prefix="/admin", tags=["admin: usage"])
    Admin = Annotated[Principal, Depends(administrator)]

    @routes.get("/usage", response_model_exclude_unset=True)
    async def show_usage(
        who: Admin,
        by: Annotated[list[Group], Query(min_length=1, max_length=4)] = ["tenant"],  # noqa: B006 (FastAPI copies it)
        since: Annotated[
            AwareDatetime | None, Query(description="Default: 30 days before `until`, at the full hour.")
        ] = None,
        until: Annotated[AwareDatetime | None, Query(description="Not included. Default: everything so far.")] = None,
        tenant: Plain | None = None,
    ) -> UsageReport:
        """Requests, tokens and cost by tenant, key, model or day; name several for their combinations."""
        end = until.timestamp() if until else time.time()
        start = since.timestamp() if since else (end - DEFAULT_SPAN_S) // HOUR_S * HOUR_S
        groups = list(dict.fromkeys(by))
        sums = await read_ledger(lambda: usage(reports, groups, RequestFilter(start, end if until else None, tenant)))
        rows = [_usage_row(groups, row) for row in sums]
        return UsageReport(since=as_moment(start), until=as_moment(end), data=rows)

    return routes


def _usage_row(groups: list[Group], row: Usage) -> UsageRow:
    return UsageRow.model_validate(
        {
            **dict(zip(groups, row.group, strict=True)),
            "requests": row.requests,
            "prompt_tokens": row.prompt_tokens,
            "completion_tokens": row.completion_tokens,
            "cost_usd": format_dollars(row.cost_nanos),
        }
    )
