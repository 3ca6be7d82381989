"""`POST /v1/feedback`: what a user says of an answer, joined to the model version that gave it."""

# No `from __future__ import annotations`: FastAPI could not resolve dependencies that are local values.

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import msgspec
from fastapi import APIRouter, Depends
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from serving.gateway.api.access import principal
from serving.gateway.api.admin.audit import as_moment, read_ledger
from serving.gateway.api.admin.changes import as_gateway_error
from serving.gateway.errors import BadRequest, NotFound
from serving.identity import Identity, IdentityError, Principal
from serving.ledger.feedback import Feedback, RatedRequest, Texts, give_feedback, rated_request
from serving.provenance.receipts import (
    NoStatement,
    NotSigned,
    Receipt,
    ReceiptIssuer,
    Statement,
    check_prompt,
    check_signature,
    check_text,
    read_record,
)

MAX_TEXT_CHARS = 100_000
MAX_REASON_CHARS = 2000
MAX_MESSAGES = 500
# vLLM makes an answer's id of the request's: `chatcmpl-req_…`. The gateway's own answers have its number alone.
_REQUEST_ID = re.compile(r"(?:^|[-_])(?:req_)?([0-9a-f]{24})(?:-\d+)?$")


def _storable(text: str) -> str:
    """Raises ValueError for what no database holds: NUL, and halves of surrogate pairs."""
    if "\x00" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
        raise ValueError("it holds characters that are no text")
    return text


def _encodable(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    try:
        json.dumps(messages)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return messages


_Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS), AfterValidator(_storable)]
_Rating = Annotated[float, Field(ge=-1, le=1, strict=True, allow_inf_nan=False)]


class FeedbackRequest(BaseModel):
    """What is said of one answer, named in one of three ways. It replaces what was said of it before."""

    model_config = ConfigDict(extra="forbid")

    request_id: str | None = Field(default=None, max_length=100, description="The answer's `X-Request-Id`.")
    id: str | None = Field(default=None, max_length=200, description="Or the answer's `id`, as `chatcmpl-…`.")
    receipt: str | None = Field(default=None, max_length=16_384, description="Or its receipt.")
    rating: Literal["up", "down"] | _Rating | None = Field(
        default=None, description="`up`, `down`, or a number from -1 (bad) to 1 (good)."
    )
    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS), AfterValidator(_storable)] | None = Field(
        default=None, description="Why. A text, kept only where the tenant allows it, like those below."
    )
    correction: _Text | None = Field(default=None, description="The answer as it should have been.")
    messages: Annotated[list[dict[str, Any]], Field(max_length=MAX_MESSAGES), AfterValidator(_encodable)] | None = (
        Field(default=None, description="The conversation as it was sent, to learn from.")
    )
    answer: _Text | None = Field(default=None, description="The answer's text as it was received.")

    @model_validator(mode="after")
    def _says_something_of_one(self) -> Self:
        if sum(name is not None for name in (self.request_id, self.id, self.receipt)) != 1:
            raise ValueError("name the answer by exactly one of 'request_id', 'id', 'receipt'")
        if self.rating is None and self.reason is None and self.correction is None:
            raise ValueError("give at least one of 'rating', 'reason', 'correction'")
        return self

    @property
    def number(self) -> float | None:
        """The rating from -1 to 1."""
        return {"up": 1.0, "down": -1.0}[self.rating] if isinstance(self.rating, str) else self.rating

    def texts(self) -> Texts:
        messages = json.dumps(self.messages) if self.messages is not None else None
        return Texts(self.reason, self.correction, messages, self.answer)


class FeedbackView(BaseModel):
    """What was kept."""

    request_id: str
    model: str
    rating: float | None
    text_kept: bool = Field(description="false: there was none, or the tenant does not let texts be kept.")
    verified: bool | None = Field(
        description="Whether `messages` and `answer` are those of the answer's receipt; null: nothing was compared."
    )
    created_at: datetime
    updated_at: datetime


def feedback_routes(
    identity: Identity, issuer: Callable[[], ReceiptIssuer | None], count: Callable[[str, str, float], None]
) -> APIRouter:
    """The endpoint.

    Args:
        identity: knows tenants; its database holds requests and feedback.
        issuer: of receipts, at the moment; None: there are none.
        count: told model, manifest and rating of each feedback that has one, on the event loop.
    """
    routes = APIRouter(tags=["feedback"])

    @routes.post("/v1/feedback")
    async def feedback(request: FeedbackRequest, who: Annotated[Principal, Depends(principal)]) -> FeedbackView:
        """Rate an answer of your own tenant, say why, or correct it. Saying it again replaces what was said."""
        # On a thread, with the hashing of long texts too.
        kept = await read_ledger(lambda: _keep(request, who, identity, issuer()))
        if kept.rating is not None:
            count(kept.model, kept.manifest, kept.rating)
        return FeedbackView(
            request_id=kept.request_id,
            model=kept.model,
            rating=kept.rating,
            text_kept=any(text is not None for text in (kept.reason, kept.correction, kept.messages, kept.answer)),
            verified=kept.verified,
            created_at=as_moment(kept.created_at),
            updated_at=as_moment(kept.updated_at),
        )

    return routes


def _keep(request: FeedbackRequest, who: Principal, identity: Identity, issuer: ReceiptIssuer | None) -> Feedback:
    """Find the answer, compare the texts with its receipt, and write the row.

    Raises:
        NotFound, BadRequest, IdentityUnavailable, DatabaseError: nothing was written.
    """
    rated = rated_request(identity.database, _request_id(request, issuer), who.tenant)
    if rated is None:
        raise _unknown()
    statement, salts = _stated(rated, issuer)
    verified = _compare(request, statement, salts)
    try:
        keeps_text = identity.tenant(who.tenant).keep_feedback_text
    except IdentityError as error:
        raise as_gateway_error(error) from None
    texts = request.texts() if keeps_text else Texts()
    return give_feedback(identity.database, _feedback(who, request, rated, statement, texts, verified))


def _unknown() -> NotFound:
    """The same for a request of somebody else's as for none at all."""
    return NotFound("There is no such request of yours.", code="request_not_found")


def _request_id(request: FeedbackRequest, issuer: ReceiptIssuer | None) -> str:
    """Raises: NotFound, BadRequest."""
    if request.receipt is not None:
        return _of_receipt(request.receipt, issuer)
    match = _REQUEST_ID.search(request.request_id or request.id or "")
    if match is None:
        raise _unknown()
    return f"req_{match[1]}"


def _of_receipt(text: str, issuer: ReceiptIssuer | None) -> str:
    if issuer is None:
        raise NotFound("This gateway signs no receipts.", code="receipts_off")
    try:
        statement, check = check_signature(Receipt.parse(text), issuer.keys.public())
    except ValueError as error:
        raise BadRequest(f"receipt: {error}.", param="receipt") from None
    if statement is None:
        raise BadRequest(f"receipt: it {check.says}.", param="receipt")
    return statement.jti


def _stated(rated: RatedRequest, issuer: ReceiptIssuer | None) -> tuple[Statement | None, dict[str, bytes]]:
    """What was stated of the answer when it ended, and the salts; nothing where that cannot be read here."""
    if rated.receipt is None or issuer is None:
        return None, {}
    try:
        return read_record(rated.receipt, issuer.keys, rated.request_id)
    except (NotSigned, NoStatement):
        return None, {}


def _compare(request: FeedbackRequest, statement: Statement | None, salts: Mapping[str, bytes]) -> bool | None:
    """Whether the given texts are those that the receipt is about; None: there is nothing to compare.

    Raises:
        BadRequest: they are not.
    """
    if statement is None:
        return None
    checks = {}
    if request.messages is not None:
        checks["messages"] = check_prompt(statement, salts, json.dumps(request.messages))
    if request.answer is not None:
        checks["answer"] = check_text(statement, salts, request.answer)
    for name, check in checks.items():
        if check.holds is False:
            raise BadRequest(f"{name}: it {check.says}.", param=name, code="feedback_mismatch")
    return all(check.holds for check in checks.values()) if checks else None


def _feedback(
    who: Principal,
    request: FeedbackRequest,
    rated: RatedRequest,
    statement: Statement | None,
    texts: Texts,
    verified: bool | None,
) -> Feedback:
    """The row to write; the database gives it its id and its times."""
    return Feedback(
        id=0,
        request_id=rated.request_id,
        tenant=who.tenant,
        key_id=who.key_id,
        model=rated.model,
        manifest=statement.manifest if statement is not None else "",
        created_at=0.0,
        updated_at=0.0,
        rating=request.number,
        verified=verified,
        **msgspec.structs.asdict(texts),
    )
