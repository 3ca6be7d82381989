"""Everything that can go wrong with a request, as one tree, and its OpenAI-shaped JSON.

GatewayError
  BadRequest            400 · or the engine's own 4xx
    ContextTooLong      400 context_length_exceeded
    TooLarge            413 request_too_large
    ContentBlocked      400 content_blocked
    PolicyRefused       400 policy_refused
  Unauthorized          401 invalid_api_key
  Forbidden             403
  ModelNotFound         404 model_not_found
  NotFound              404
    EndpointNotSupported 404 endpoint_not_supported
  MethodNotAllowed      405
  Conflict              409 already_exists
  ChangedMeanwhile      412 version_conflict
  LimitExceeded         429 rate_limit_exceeded
    BudgetExhausted     429 insufficient_quota
    QueueFull           429 queue_full
  EngineFailed          502 engine_error
  EngineTimeout         504 engine_timeout
  EngineUnavailable     503 engine_unavailable
  LedgerDown            503 ledger_unavailable
  Overloaded            503 overloaded
  DeadlineExceeded      504 deadline_exceeded
  IdentityUnavailable   503 identity_unavailable
  ClassifierUnavailable 503 classifier_unavailable
  PolicyUnavailable     503 policy_unavailable

`code` is stable and documented in docs/errors.md; `message` is one line for a person and holds no prompt text.
"""

from __future__ import annotations

import re
from typing import ClassVar

import msgspec

_encode = msgspec.json.Encoder().encode


class GatewayError(Exception):
    """A request ends here. Class attributes are the defaults of each kind."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        status: int | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.http_status = status or self.status
        self.headers = headers

    def body(self) -> bytes:
        """The error object that every OpenAI client understands."""
        return _encode({"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}})


class BadRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    default_code = "invalid_request"


class ContextTooLong(BadRequest):
    default_code = "context_length_exceeded"


class TooLarge(BadRequest):
    status = 413
    default_code = "request_too_large"


class ContentBlocked(BadRequest):
    default_code = "content_blocked"


class PolicyRefused(BadRequest):
    default_code = "policy_refused"


class Unauthorized(GatewayError):
    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"


class Forbidden(GatewayError):
    status = 403
    type = "permission_error"
    default_code = "forbidden"


class NotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class EndpointNotSupported(NotFound):
    default_code = "endpoint_not_supported"


class ModelNotFound(NotFound):
    default_code = "model_not_found"


class MethodNotAllowed(GatewayError):
    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"


class Conflict(GatewayError):
    status = 409
    type = "invalid_request_error"
    default_code = "already_exists"


class ChangedMeanwhile(GatewayError):
    status = 412
    type = "invalid_request_error"
    default_code = "version_conflict"


class LimitExceeded(GatewayError):
    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class BudgetExhausted(LimitExceeded):
    type = "insufficient_quota"
    default_code = "insufficient_quota"


class QueueFull(LimitExceeded):
    default_code = "queue_full"


class Overloaded(GatewayError):
    status = 503
    default_code = "overloaded"


class DeadlineExceeded(GatewayError):
    status = 504
    default_code = "deadline_exceeded"


class EngineFailed(GatewayError):
    status = 502
    default_code = "engine_error"


class EngineTimeout(GatewayError):
    status = 504
    default_code = "engine_timeout"


class EngineUnavailable(GatewayError):
    status = 503
    default_code = "engine_unavailable"


class LedgerDown(GatewayError):
    status = 503
    default_code = "ledger_unavailable"


class IdentityUnavailable(GatewayError):
    status = 503
    default_code = "identity_unavailable"


class ClassifierUnavailable(GatewayError):
    status = 503
    default_code = "classifier_unavailable"


class PolicyUnavailable(GatewayError):
    status = 503
    default_code = "policy_unavailable"


class ClientGone(Exception):
    """The client closed its connection: nobody is left to answer."""


class _EngineErrorBody(msgspec.Struct):
    message: str = ""
    param: str | None = None


class _EngineErrorEnvelope(msgspec.Struct):
    error: _EngineErrorBody | None = None
    message: str = ""
    param: str | None = None


_decode_envelope = msgspec.json.Decoder(_EngineErrorEnvelope).decode
# vLLM lists every validation error as a dictionary's text; the first one, as a line, is what a person needs.
_VALIDATION = re.compile(
    r"^\d+ validation errors?:\s+\{.*?'loc': '(?P<field>[^']*)', 'msg': (?P<quote>['\"])(?P<said>.*?)(?P=quote),",
    re.DOTALL,
)
_CONTEXT_WORDS = ("maximum context length", "context length", "max_model_len", "maximum model length")


NOT_IMPLEMENTED = 501


def from_engine(status: int, body: bytes, path: str) -> GatewayError:
    """The engine's refusal of a request to `path`, in our own shape and with our own stable codes.

    A client's mistake keeps its status and the engine's message; an engine's failure becomes 502 without details.
    """
    if status == NOT_IMPLEMENTED:
        return _unsupported(path)
    if not 400 <= status < 500:
        return EngineFailed("The engine failed on this request. Try again; if it stays, see the engine's log.")
    try:
        envelope = _decode_envelope(body)
        problem = envelope.error or _EngineErrorBody(envelope.message, envelope.param)
    except msgspec.DecodeError:
        problem = _EngineErrorBody()
    message = problem.message or f"The engine refused the request with status {status}."
    if found := _VALIDATION.match(message):
        field = found["field"].removeprefix("body.")
        return BadRequest(f"{field}: {found['said']}.", param=field, status=status)
    if status == 400 and any(words in message.lower() for words in _CONTEXT_WORDS):
        return ContextTooLong(message, param=problem.param)
    if status in (401, 403):
        return EngineFailed("The engine refused the gateway's credentials.")
    if status in (404, 405) and not problem.message:
        return _unsupported(path)
    if status == 404:
        return ModelNotFound(message, param="model")
    if status == 429:
        return LimitExceeded(message, code="engine_overloaded", headers=((b"retry-after", b"1"),))
    return BadRequest(message, param=problem.param, status=status)


def _unsupported(path: str) -> GatewayError:
    return EndpointNotSupported(f"The engine of this model does not speak {path}.", param="model")
