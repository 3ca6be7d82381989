"""`/v1/provenance/receipts`, `verify` and `keys`: a receipt by its request, its check, and the public keys."""

# No `from __future__ import annotations`: FastAPI could not resolve dependencies that are local values.

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Response
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from serving.gateway.api.access import principal
from serving.gateway.api.admin.audit import read_ledger
from serving.gateway.errors import Conflict, NotFound
from serving.identity import Identity, Principal
from serving.ledger.receipts import kept_receipt
from serving.provenance.receipts import (
    Check,
    NoStatement,
    NotSigned,
    Receipt,
    ReceiptIssuer,
    ReceiptKeys,
    Statement,
    check_prompt,
    check_signature,
    check_tenant,
    check_text,
    receipt_of,
    verified,
)

MAX_TEXT_CHARS = 1_000_000
# A verifier that knows a key keeps it; a new key is fetched when a receipt names it.
CACHE_KEYS = "public, max-age=300"
log = logging.getLogger(__name__)


class KeptReceipt(BaseModel):
    """A receipt, with the salts that open its hashes."""

    request_id: str
    receipt: str


class VerifyRequest(BaseModel):
    """A receipt, and what to hold against it."""

    receipt: str = Field(min_length=1, max_length=16_384, description="With its salts, as far as they shall be used.")
    text: str | None = Field(default=None, max_length=MAX_TEXT_CHARS, description="One text of the answer.")
    prompt: str | None = Field(
        default=None,
        max_length=MAX_TEXT_CHARS,
        description="The request's JSON, its messages or input as JSON, or a prompt as it is.",
    )
    tenant: str | None = Field(default=None, max_length=63)


class CheckRow(BaseModel):
    """One thing that was looked at."""

    subject: str
    holds: bool | None = Field(description="null: it could not be checked.")
    says: str


class VerifyResponse(BaseModel):
    """`verified`: the signature holds, and so does everything that was given with the receipt."""

    verified: bool
    checks: list[CheckRow]
    request_id: str | None = None
    issued_at: datetime | None = None
    claims: dict[str, Any] | None = None


class JwkSet(BaseModel):
    """RFC 7517."""

    keys: list[dict[str, str]]


def receipt_routes(identity: Identity, issuer: Callable[[], ReceiptIssuer | None]) -> APIRouter:
    """Routes for the application that serves what is not hot. `issuer` signs at the moment; None: nobody does."""
    routes = APIRouter(tags=["provenance"])
    Holder = Annotated[Principal, Depends(principal)]

    def signing() -> ReceiptIssuer:
        active = issuer()
        if active is None:
            raise NotFound("This gateway signs no receipts.", code="receipts_off")
        return active

    @routes.get("/v1/provenance/receipts/{request_id}")
    async def show_receipt(
        who: Holder, request_id: Annotated[str, InPath(pattern=r"^[!-~]{1,64}$")], response: Response
    ) -> KeptReceipt:
        """The receipt of an answer, for its tenant or an administrator; the answer's `X-Request-Id` names it.

        It is signed now, and only if its record is as it was made when the answer ended.
        """
        keys = signing().keys
        response.headers["cache-control"] = "no-store"
        kept = await read_ledger(lambda: kept_receipt(identity.database, request_id))
        if kept is None or not (who.admin or who.tenant == kept.tenant):
            raise NotFound("There is no receipt for this request.", code="receipt_not_found")
        return KeptReceipt(request_id=request_id, receipt=_receipt(kept.record, keys, request_id).opened)

    @routes.post("/v1/provenance/verify")
    def verify(request: VerifyRequest, _: Holder) -> VerifyResponse:
        """Check a receipt's signature, and a text, a prompt or a tenant against it."""
        keys = signing().keys.public()
        try:
            receipt = Receipt.parse(request.receipt)
        except ValueError as error:
            return _response(None, [Check("receipt", False, str(error))])
        statement, signature = check_signature(receipt, keys)
        checks = [signature]
        if statement is not None:
            if request.text is not None:
                checks.append(check_text(statement, receipt.salts, request.text))
            if request.prompt is not None:
                checks.append(check_prompt(statement, receipt.salts, request.prompt))
            if request.tenant is not None:
                checks.append(check_tenant(statement, receipt.salts, request.tenant))
        return _response(statement, checks)

    @routes.get("/v1/provenance/keys")
    @routes.get("/.well-known/jwks.json", operation_id="well_known_jwks")
    def show_keys(response: Response) -> JwkSet:
        """The public keys of all receipts, old ones too, as a JSON Web Key Set. Needs no key."""
        response.headers["cache-control"] = CACHE_KEYS
        return JwkSet(**signing().keys.jwks())

    return routes


def _receipt(record: str, keys: ReceiptKeys, request_id: str) -> Receipt:
    try:
        return receipt_of(record, keys, request_id)
    except (NotSigned, NoStatement) as error:
        log.error("no receipt is signed of a record", extra={"request_id": request_id, "reason": str(error)})
        raise Conflict(f"The receipt's record {error}.", code="receipt_record_invalid") from None


def _response(statement: Statement | None, checks: list[Check]) -> VerifyResponse:
    rows = [CheckRow(**check._asdict()) for check in checks]
    if statement is None:
        return VerifyResponse(verified=False, checks=rows)
    return VerifyResponse(
        verified=verified(checks),
        checks=rows,
        request_id=statement.jti,
        issued_at=datetime.fromtimestamp(statement.iat, UTC),
        claims=msgspec.to_builtins(statement),
    )
