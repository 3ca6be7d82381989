"""Everything that can go wrong with a request, as one tree, and its OpenAI-shaped JSON.

GatewayError
  BadRequest            400 · or the engine's own 4xx
    ContextTooLong      400 context_length_exceeded
    ControlTokenMade    400 control_token_made
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
  AnswerTooLarge        502 answer_too_large
  EngineTimeout         504 engine_timeout
  EngineUnavailable     503 engine_unavailable
    EngineOverloaded    503 engine_overloaded
  LedgerDown            503 ledger_unavailable
  Overloaded            503 overloaded
  DeadlineExceeded      504 deadline_exceeded
  IdentityUnavailable   503 identity_unavailable
  ClassifierUnavailable 503 classifier_unavailable
  PolicyUnavailable     503 policy_unavailable

`code` is stable and documented in docs/reference/errors.md. `message` is one line for a person and holds no prompt
text.
"""

from __future__ import annotations

import re
from typing import ClassVar, NamedTuple

import msgspec

from serving.guard.question.control import MADE
from serving.http.errors import HttpError

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

# For what passes by itself in seconds: a full queue, an engine that starts.
RETRY_AFTER = ((b"retry-after", b"2"),)


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


class ControlTokenMade(BadRequest):
    """The engine's check of the prompt, after the chat template (`serving.engine.rendering`)."""

    default_code = MADE


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


class AnswerTooLarge(GatewayError):
    """No fault of the engine's, and another would write the same: it is not asked."""

    status = 502
    default_code = "answer_too_large"


class EngineTimeout(GatewayError):
    status = 504
    default_code = "engine_timeout"


class EngineUnavailable(GatewayError):
    status = 503
    default_code = "engine_unavailable"


class EngineOverloaded(EngineUnavailable):
    default_code = "engine_overloaded"


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


def refusal_body(error: HttpError) -> bytes:
    """The error object of what the HTTP server refuses before the application sees it."""
    kind = Forbidden if error.status == 403 else BadRequest if error.status < 500 else GatewayError
    return kind(error.message, code=error.code).body()


# vLLM lists every validation error as a dictionary's text; the first one, as a line, is what a person needs.
_VALIDATION = re.compile(
    r"^\d+ validation errors?:\s+\{.*?'loc': '(?P<field>[^']*)', 'msg': (?P<quote>['\"])(?P<said>.*?)(?P=quote),",
    re.DOTALL,
)
_CONTEXT_WORDS = ("context length", "context size", "context window", "max_model_len", "maximum model length")
_MAX_MESSAGE_CHARS = 500
# Where engines are, and what of their code they show, is nobody's business.
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>)]+", re.IGNORECASE)
_TRACE = re.compile(r"Traceback \(most recent call last\)|\n\s*File \"|<html", re.IGNORECASE)
_SPACE = re.compile(r"[\s\x00-\x1f\x7f]+")


def from_engine(status: int, body: bytes, path: str) -> GatewayError:
    """The engine's refusal of a request to `path`, in our own shape and with our own stable codes.

    A client's own mistake keeps its status and the engine's message, cleaned; everything else names no fault of the
    client's and no details.
    """
    problem = _Problem.of(body)
    if status in (405, 501) or (status == 404 and not problem.message):
        return _unsupported(path)
    if status == 404:
        return ModelNotFound(_cleaned(problem.message) or "There is no such model.", param="model")
    if status in (400, 413, 422):
        return _clients_mistake(status, problem)
    if status in (401, 403):
        return EngineFailed("The engine refused the gateway's credentials. Tell whoever runs this gateway.")
    if status in (429, 529):
        return EngineOverloaded("Every engine of this model takes no more for now. Try again later.")
    if status == 408:
        return EngineTimeout("The engine gave up waiting. Try again, or ask for less.")
    return EngineFailed("The engine failed on this request. Try again; if it stays, see the engine's log.")


def _clients_mistake(status: int, problem: _Problem) -> GatewayError:
    if match := _VALIDATION.match(problem.message):
        field = match["field"].removeprefix("body.")[:100]
        return BadRequest(_cleaned(f"{field}: {match['said']}."), param=field, status=status)
    message = _cleaned(problem.message) or f"The engine refused the request with status {status}."
    code, _, detail = message.partition(": ")
    if code == MADE and detail:
        return ControlTokenMade(f"{detail[0].upper()}{detail[1:]}.", status=status)
    if any(words in message.lower() for words in _CONTEXT_WORDS):
        return ContextTooLong(message, param=problem.param)
    return BadRequest(message, param=problem.param, status=status)


def _cleaned(message: str) -> str:
    """One line for a person; empty where it shows the engine's code."""
    if _TRACE.search(message):
        return ""
    line = _SPACE.sub(" ", _URL.sub("[address]", message)).strip()
    return line if len(line) <= _MAX_MESSAGE_CHARS else f"{line[: _MAX_MESSAGE_CHARS - 1]}\u2026"


class _Problem(NamedTuple):
    """What an engine says is wrong, in any of the usual shapes."""

    message: str
    param: str | None

    @classmethod
    def of(cls, body: bytes) -> _Problem:
        try:
            said = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return cls("", None)
        # {"error": {"message"}} of OpenAI's, {"error": "…"}, {"message"}; {"detail": [{"loc", "msg"}]} of FastAPI's.
        error = said.get("error", said) if isinstance(said, dict) else None
        if isinstance(error, str):
            return cls(error, None)
        if not isinstance(error, dict):
            return cls("", None)
        message, param = error.get("message"), error.get("param")
        if isinstance(message, str):
            return cls(message, param if isinstance(param, str) else None)
        detail = error.get("detail")
        first = detail[0] if isinstance(detail, list) and detail else None
        if isinstance(first, dict) and isinstance(first.get("msg"), str):
            location = first.get("loc")
            field = ".".join(str(part) for part in location if part != "body") if isinstance(location, list) else ""
            return cls(f"{field}: {first['msg']}" if field else first["msg"], field or None)
        return cls("", None)


def _unsupported(path: str) -> GatewayError:
    return EndpointNotSupported(f"The engine of this model does not speak {path}.", param="model")
