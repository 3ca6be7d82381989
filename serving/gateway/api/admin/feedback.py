"""`/admin/feedback`: what users said of answers, with the version that gave them, as pages and as data to train on."""

# No `from __future__ import annotations`: FastAPI could not resolve dependencies that are local values.

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, Field
from sqlalchemy import Engine

from serving.gateway.api.access import administrator
from serving.gateway.api.admin.audit import as_moment, read_ledger
from serving.gateway.api.admin.schemas import MAX_PAGE, Plain
from serving.identity import Principal
from serving.ledger.feedback import Feedback, FeedbackFilter, list_feedback, rating_sums
from serving.ledger.feedback_export import Origins, Shape, feedback_lines


class FeedbackRow(BaseModel):
    """What was said of one answer, and what gave it."""

    id: int
    request_id: str
    tenant: str
    key_id: str
    model: str
    manifest: str = Field(description="Digest of the checkpoint; empty: not known.")
    checkpoint: str | None = Field(description="NAME@VERSION, where this gateway's registry has it.")
    data: list[dict[str, Any]] = Field(description="What that checkpoint was trained on, by its manifest.")
    rating: float | None
    verified: bool | None
    reason: str | None
    correction: str | None
    messages: list[dict[str, Any]] | None
    answer: str | None
    created_at: datetime
    updated_at: datetime


class FeedbackPage(BaseModel):
    """Feedback, newest first."""

    data: list[FeedbackRow]
    next: int | None = Field(description="Give it as `before` for the next page; null: this is the last.")


class Rating(BaseModel):
    """How one checkpoint was rated under one name."""

    model: str
    manifest: str
    checkpoint: str | None
    ratings: int
    mean: float


class Ratings(BaseModel):
    """Mean ratings by model and checkpoint."""

    data: list[Rating]


def feedback_routes(database: Engine, home: Path) -> APIRouter:
    """List, sum up and export; `home` is where the registry is."""
    routes = APIRouter(prefix="/admin/feedback", tags=["admin: feedback"])
    Admin = Annotated[Principal, Depends(administrator)]

    def selection(
        tenant: Plain | None = None,
        model: Annotated[str | None, Query(max_length=255)] = None,
        since: Annotated[AwareDatetime | None, Query(description="First given then or later.")] = None,
        until: Annotated[AwareDatetime | None, Query(description="Not included.")] = None,
    ) -> FeedbackFilter:
        return FeedbackFilter(tenant, model, since.timestamp() if since else None, until.timestamp() if until else None)

    Selected = Annotated[FeedbackFilter, Depends(selection)]

    @routes.get("")
    async def show_feedback(
        who: Admin,
        selected: Selected,
        before: Annotated[int, Query(ge=0, le=2**62, description="Only older than this row; 0: the newest.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    ) -> FeedbackPage:
        """What users said of answers, newest first."""

        def fetch() -> list[FeedbackRow]:
            origins = Origins(home)
            rows = list_feedback(database, selected, before, limit + 1, newest_first=True)
            return [_row(row, origins) for row in rows]

        rows = await read_ledger(fetch)
        return FeedbackPage(data=rows[:limit], next=rows[limit - 1].id if len(rows) > limit else None)

    @routes.get("/ratings")
    async def show_ratings(who: Admin, selected: Selected) -> Ratings:
        """How each checkpoint was rated."""

        def fetch() -> list[Rating]:
            origins = Origins(home)
            return [
                Rating(
                    model=total.model,
                    manifest=total.manifest,
                    checkpoint=origins.of(total.manifest).get("checkpoint"),
                    ratings=total.num_ratings,
                    mean=total.mean,
                )
                for total in rating_sums(database, selected)
            ]

        return Ratings(data=await read_ledger(fetch))

    @routes.get("/export", response_class=StreamingResponse)
    async def export_feedback(
        who: Admin,
        selected: Selected,
        shape: Annotated[
            Shape, Query(alias="as", description="Whole rows, or what `signet train` reads: dpo, sft.")
        ] = "rows",
    ) -> StreamingResponse:
        """JSON lines, oldest first. `dpo` and `sft` have those with the texts for it."""
        lines = feedback_lines(database, selected, shape, Origins(home))
        # A database that cannot be read is told before the answer begins.
        first = await read_ledger(lambda: next(lines, ""))
        body: Iterator[str] = chain([first], lines)
        return StreamingResponse(body, media_type="application/jsonl")

    return routes


def _row(row: Feedback, origins: Origins) -> FeedbackRow:
    origin = origins.of(row.manifest)
    return FeedbackRow(
        id=row.id,
        request_id=row.request_id,
        tenant=row.tenant,
        key_id=row.key_id,
        model=row.model,
        manifest=row.manifest,
        checkpoint=origin.get("checkpoint"),
        data=origin.get("data", []),
        rating=row.rating,
        verified=row.verified,
        reason=row.reason,
        correction=row.correction,
        messages=json.loads(row.messages) if row.messages is not None else None,
        answer=row.answer,
        created_at=as_moment(row.created_at),
        updated_at=as_moment(row.updated_at),
    )
