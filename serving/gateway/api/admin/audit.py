"""`/admin/audit`: who changed what, and whether the ledger is as it was written."""

# No `from __future__ import annotations`: FastAPI could not resolve dependencies that are local values.

import asyncio
import functools
import json
import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from serving.database import DatabaseError, Reader, ReadTimeout, open_engine
from serving.gateway.api.access import administrator
from serving.gateway.api.admin.schemas import MAX_PAGE, Plain
from serving.gateway.errors import BadRequest, LedgerDown
from serving.identity import Principal
from serving.ledger.anchors import AnchorError, Heads, expected_heads
from serving.ledger.audit import audit
from serving.ledger.receipt_check import local_receipt_keys
from serving.ledger.verify import Report, verify
from serving.provenance.receipts import ReceiptKeysError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class AuditRow(BaseModel):
    """Who did what to whom."""

    id: int
    event_id: str
    at: datetime
    actor: str = Field(description="A key's id, a token's subject, or `cli:USER`.")
    action: str
    subject: str
    details: dict[str, Any]


class AuditPage(BaseModel):
    """Administrative actions, newest first."""

    data: list[AuditRow]
    next: int | None = Field(description="Give it as `before` for the next page; null: this is the last.")


class Verification(BaseModel):
    """Whether every record is as it was written."""

    holds: bool
    requests: int
    audits: int
    chains: int
    receipts: int = Field(description="Requests that were held against their own receipts.")
    foreign_receipts: int = Field(description="Requests whose receipts are signed by keys that are not here.")
    expected: int = Field(description="Records that the given anchors name.")
    unchained: int = Field(description="Requests older than the chains: nothing is known about them.")
    num_findings: int
    findings: list[str] = Field(description="The first thousand.")


class Anchors(BaseModel):
    """What was noted elsewhere."""

    model_config = ConfigDict(extra="forbid")

    anchors: list[str] = Field(
        default=[], description="Lines that the gateway sent out (`ledger.anchors`) or `signet audit anchor` printed."
    )


def audit_routes(database: Engine, records: Reader, receipt_keys: Path) -> APIRouter:
    """List administrative actions, verify the chains."""
    routes = APIRouter(prefix="/admin", tags=["admin: audit"])
    Admin = Annotated[Principal, Depends(administrator)]
    verifying = asyncio.Lock()

    @routes.get("/audit")
    async def list_audit(
        who: Admin,
        subject: Annotated[Plain | None, Query(description="Only about this key, tenant or engine.")] = None,
        before: Annotated[int | None, Query(ge=0, le=2**62, description="Only older than this row.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    ) -> AuditPage:
        """Who changed what, newest first."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit + 1)
        if subject is not None:
            query = query.where(audit.c.subject == subject)
        if before is not None:
            query = query.where(audit.c.id < before)

        def fetch() -> list[AuditRow]:
            with records.connect() as connection:
                return [
                    AuditRow(
                        id=row.id,
                        event_id=row.event_id,
                        at=as_moment(row.created_at),
                        actor=row.actor,
                        action=row.action,
                        subject=row.subject,
                        details=json.loads(row.details),
                    )
                    for row in connection.execute(query)
                ]

        rows = await read_ledger(fetch)
        return AuditPage(data=rows[:limit], next=rows[limit - 1].id if len(rows) > limit else None)

    @routes.post("/audit/verify")
    async def verify_audit(who: Admin, noted: Anchors | None = None) -> Verification:
        """As `signet audit verify`: every record's hash chain, its receipt, and what was noted elsewhere.

        Reads the whole ledger, in a process of its own.
        """
        anchors = noted.anchors if noted is not None else []
        async with verifying:
            report = await _read_elsewhere(database.url.render_as_string(hide_password=False), receipt_keys, anchors)
        return Verification(
            holds=not report.num_findings,
            requests=report.num_requests,
            audits=report.num_audits,
            chains=report.num_chains,
            unchained=report.num_unchained,
            receipts=report.num_receipts,
            foreign_receipts=report.num_foreign_receipts,
            expected=report.num_expected,
            num_findings=report.num_findings,
            findings=report.findings,
        )

    return routes


async def read_ledger(work: Callable[[], Result]) -> Result:
    """Do blocking work on the ledger in a thread.

    Raises:
        LedgerDown: its database cannot be used.
    """
    try:
        return await asyncio.to_thread(work)
    except ReadTimeout as error:
        logger.warning("a report was given up: %s", error)
        raise LedgerDown(
            "The ledger took too long to answer (database.read_timeout_s). Ask for less: a shorter span, or full hours."
        ) from None
    except (DatabaseError, SQLAlchemyError) as error:
        logger.warning("the ledger cannot be read: %s", error if isinstance(error, DatabaseError) else type(error))
        raise LedgerDown("The ledger cannot be read just now. See the gateway's log.") from None


def _heads_in(anchors: list[str], receipt_keys: Path) -> Heads:
    keys = local_receipt_keys(receipt_keys)
    return expected_heads(anchors, {} if keys is None else keys.public(), {})


async def _read_elsewhere(url: str, receipt_keys: Path, anchors: list[str]) -> Report:
    """Hashing millions of records would hold up the requests of this process."""
    process = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    try:
        expected = await asyncio.to_thread(_heads_in, anchors, receipt_keys)
        work = functools.partial(_verify, url, expected, receipt_keys)
        return await asyncio.get_running_loop().run_in_executor(process, work)
    except ReceiptKeysError:
        raise LedgerDown("The receipt keys cannot be read, so no record can be held against its receipt.") from None
    except AnchorError as error:
        raise BadRequest(f"'anchors': {error}.", param="anchors") from None
    except (DatabaseError, OSError, BrokenExecutor):
        raise LedgerDown("The ledger cannot be read just now. See the gateway's log.") from None
    finally:
        process.shutdown(wait=False)


def _verify(url: str, expected: Heads, receipt_keys: Path) -> Report:
    engine = open_engine(url)
    try:
        return verify(engine, expected, receipt_keys=local_receipt_keys(receipt_keys))
    finally:
        engine.dispose()


def as_moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
