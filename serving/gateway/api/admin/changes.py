"""How an administrator's change is made: written to the audit chain, then done, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from serving.gateway.errors import (
    BadRequest,
    ChangedMeanwhile,
    Conflict,
    GatewayError,
    IdentityUnavailable,
    LedgerDown,
    NotFound,
)
from serving.identity import AlreadyExists, IdentityError, InvalidValue, Principal, VersionConflict
from serving.identity import NotFound as Unknown
from serving.ledger import LedgerUnavailable

Result = TypeVar("Result")


class Audit(Protocol):
    """What writes the audit chain: the ledger."""

    async def audit(self, actor: str, action: str, subject: str, details: Mapping[str, Any] | None = None) -> None: ...


async def read(work: Callable[[], Result]) -> Result:
    """Do blocking work in a thread; identity's errors become the gateway's.

    Raises:
        GatewayError: what went wrong, for the administrator.
    """
    try:
        return await asyncio.to_thread(work)
    except IdentityError as error:
        raise as_gateway_error(error) from None


async def change(
    audit: Audit, who: Principal, action: str, subject: str, details: Mapping[str, Any], work: Callable[[], Result]
) -> Result:
    """Write an action to the audit chain, then do it.

    In this order no change can be missing from the chain, whatever is killed between the two. One that failed is
    followed by a row of its own that says so.

    Args:
        audit: the ledger.
        who: the administrator.
        action: as `key.create`.
        subject: the key's id, the tenant's or engine's name.
        details: what is set, as plain JSON; no secrets.
        work: makes the change; blocking.

    Raises:
        LedgerDown: the chain cannot be written; nothing was changed.
        GatewayError: the change was refused.
    """
    await _write(audit, who, action, subject, details)
    try:
        return await asyncio.to_thread(work)
    except IdentityError as error:
        await _write(audit, who, f"{action}.failed", subject, {"reason": str(error)})
        raise as_gateway_error(error) from None


def as_gateway_error(error: IdentityError) -> GatewayError:
    """The same in the shape of every error of the gateway."""
    message = str(error)[:1].upper() + str(error)[1:] + "."
    if isinstance(error, InvalidValue):
        return BadRequest(message)
    if isinstance(error, Unknown):
        return NotFound(message)
    if isinstance(error, AlreadyExists):
        return Conflict(message)
    if isinstance(error, VersionConflict):
        return ChangedMeanwhile(message)
    return IdentityUnavailable("The database of tenants and keys cannot be used just now. See the gateway's log.")


async def _write(audit: Audit, who: Principal, action: str, subject: str, details: Mapping[str, Any]) -> None:
    try:
        await audit.audit(who.key_id, action, subject, details)
    except LedgerUnavailable:
        raise LedgerDown("The change could not be recorded, so it was not made. See the gateway's log.") from None
