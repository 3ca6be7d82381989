"""What engines send, decoded: strictly where an event has the usual shape, loosely where it has another.

An event of the usual shape holds no text but the one that the gateway knows, so its bytes may go on as they came.
Whatever else comes is decoded as plain JSON and walked (see `texts.py`).
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Literal

import msgspec

from serving.gateway.streams.duplicate_keys import repeats_keys

Json = dict[str, Any]

# The finish reason of an answer that vLLM gives up because it is being stopped.
ABORTED = "abort"
# Counts beyond it are no counts; the ledger's columns hold 64 bits.
_MOST_TOKENS = 2**53
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST_TOKENS)]


class _Counts(msgspec.Struct, forbid_unknown_fields=True):
    cached_tokens: int | None = None
    audio_tokens: int | None = None
    reasoning_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class Usage(msgspec.Struct, forbid_unknown_fields=True):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Counts | None = None
    completion_tokens_details: _Counts | None = None


class _Function(msgspec.Struct, forbid_unknown_fields=True):
    arguments: str | None = None
    name: None = None


class _ToolCall(msgspec.Struct, forbid_unknown_fields=True):
    index: int
    function: _Function
    id: None = None
    type: Literal["function"] | None = None


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    """What a piece of a message and a whole one have in common."""

    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None


class _Delta(_Part, forbid_unknown_fields=True):
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct, forbid_unknown_fields=True):
    """What a piece of a choice and a whole one have in common; details of tokens are of another shape."""

    index: int = 0
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: int | None = None
    matched_stop: int | None = None
    token_ids: None = None
    prompt_token_ids: None = None
    prompt_logprobs: None = None


class _Token(msgspec.Struct, forbid_unknown_fields=True):
    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    rank: int | None = None


class TokenDetails(_Token, forbid_unknown_fields=True):
    """What a chat's event says of one token."""

    top_logprobs: list[_Token] = []


class _Details(msgspec.Struct, forbid_unknown_fields=True):
    content: list[TokenDetails] | None = None
    refusal: None = None


class UsualChoice(_Choice, forbid_unknown_fields=True):
    """A piece of a choice that brings one text or a finish reason. Details of tokens are to be looked at."""

    delta: _Delta | None = None
    logprobs: _Details | None = None


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """What stands around the choices of an event and of a whole answer."""

    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    usage: Usage | None = None
    prompt_token_ids: None = None
    prompt_logprobs: None = None


class UsualEvent(_Envelope, forbid_unknown_fields=True, kw_only=True):
    """An event of a streamed answer, of the shape that nearly all have. No field of it holds a text unread."""

    choices: list[UsualChoice]


class _WholeFunction(msgspec.Struct, forbid_unknown_fields=True):
    arguments: str
    name: str


class _WholeCall(msgspec.Struct, forbid_unknown_fields=True):
    function: _WholeFunction
    id: str | None = None
    type: str | None = None
    index: int | None = None


class _Message(_Part, forbid_unknown_fields=True):
    tool_calls: list[_WholeCall] | None = None
    annotations: None = None
    audio: None = None
    function_call: None = None


class _WholeChoice(_Choice, forbid_unknown_fields=True):
    message: _Message | None = None
    logprobs: None = None
    routed_experts: None = None


class UsualAnswer(_Envelope, forbid_unknown_fields=True, kw_only=True):
    """A whole answer of the shape that nearly all have. `names_of` gives its strings that are no text."""

    choices: list[_WholeChoice]
    kv_transfer_params: None = None


# What bytes of an engine raise that are no JSON, no UTF-8, or nested as no answer is.
UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)

decode_usual = msgspec.json.Decoder(UsualEvent).decode
decode_usual_answer = msgspec.json.Decoder(UsualAnswer).decode
decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_HALF = re.compile("[\ud800-\udfff]")
_INCOMPLETE = "\ufffd"


def require_utf8(data: bytes) -> None:
    """Fields that are not read are passed on too. Raises UnicodeDecodeError."""
    if not data.isascii():
        data.decode()


def decode_loose(data: bytes) -> tuple[Any, bool]:
    """JSON as engines write it: with a mark in front, halves of characters (`\\ud83d`), or numbers such as `NaN`.

    Returns:
        the value, and whether the bytes may be passed on: they are JSON by the standard (RFC 8259), and every parser
        reads the same in them.

    Raises: one of UNREADABLE.
    """
    require_utf8(data)
    try:
        value = decode_any(data)
        return value, not repeats_keys(data, value)
    except msgspec.DecodeError:
        return json.loads(data.decode().removeprefix("\ufeff")), False


def encode(value: Any) -> bytes:
    """As JSON; half a character becomes U+FFFD."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(_whole_characters(value))


def join_halves(text: str) -> tuple[str, str]:
    """A text that may begin or end in the middle of a character, and what of it has to wait for the next piece."""
    if text.isascii() or _HALF.search(text) is None:
        return text, ""
    held = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
    text = text[: len(text) - len(held)]
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), held


def _whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return _HALF.sub(_INCOMPLETE, value)
    if isinstance(value, list):
        return [_whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {_whole_characters(name): _whole_characters(each) for name, each in value.items()}
    return value


# A text channel of one choice: the field's name, and for tool calls which call.
Channel = tuple[str, int]
PLAIN = ("content", "text")
CONTENT: Channel = ("content", 0)
_TEXT: Channel = ("text", 0)
PLAIN_CHANNELS = frozenset({CONTENT, _TEXT})
_REASONING: Channel = ("reasoning", 0)
_REASONING_CONTENT: Channel = ("reasoning_content", 0)
_REFUSAL: Channel = ("refusal", 0)
MESSAGE_TEXTS = ("content", "reasoning", "reasoning_content", "refusal", "thinking")
"""Fields of a message that are texts of their own."""


def texts_of(choice: UsualChoice) -> list[tuple[Channel, str]]:
    """Every non-empty text that a choice of the usual shape carries, with the channel it belongs to."""
    found: list[tuple[Channel, str]] = []
    if choice.text:
        found.append((_TEXT, choice.text))
    part = choice.delta
    if part is None:
        return found
    _find_texts(part, found)
    if part.tool_calls:
        calls = [(call.index, call.function.arguments) for call in part.tool_calls]
        found += [(("arguments", index), text) for index, text in calls if text]
    return found


def texts_of_answer(choice: _WholeChoice) -> list[tuple[Channel, str]]:
    """As `texts_of`, of a choice of a whole answer."""
    found: list[tuple[Channel, str]] = []
    if choice.text:
        found.append((_TEXT, choice.text))
    part = choice.message
    if part is None:
        return found
    _find_texts(part, found)
    if part.tool_calls:
        functions = [call.function for call in part.tool_calls]
        found += [(("name", number), own.name) for number, own in enumerate(functions) if own.name]
        found += [(("arguments", number), own.arguments) for number, own in enumerate(functions) if own.arguments]
    return found


def _find_texts(part: _Part, found: list[tuple[Channel, str]]) -> None:
    if part.content:
        found.append((CONTENT, part.content))
    if part.reasoning:
        found.append((_REASONING, part.reasoning))
    if part.reasoning_content:
        found.append((_REASONING_CONTENT, part.reasoning_content))
    if part.refusal:
        found.append((_REFUSAL, part.refusal))


def names_of(answer: UsualAnswer) -> list[str | None]:
    """What names an answer, and the parts of it."""
    identifiers = [answer.id, answer.object, answer.model, answer.system_fingerprint, answer.service_tier]
    for choice in answer.choices:
        identifiers.append(choice.finish_reason)
        if choice.message is not None:
            identifiers.append(choice.message.role)
            for call in choice.message.tool_calls or ():
                identifiers += (call.id, call.type)
    return identifiers


def set_text(choice: Json, channel: Channel, text: str) -> None:
    """Write a text into the decoded JSON of a choice that carries no other, and drop what would spell the old one."""
    field, _ = channel
    part = choice.get("delta") or choice.get("message") or {}
    if field == "text":
        choice["text"] = text
    elif field in ("arguments", "input"):
        [call] = part["tool_calls"]
        call["custom" if field == "input" else "function"][field] = text
    elif field == "function_call":
        part["function_call"]["arguments"] = text
    elif field == "transcript":
        part["audio"]["transcript"] = text
    else:
        part[field] = text
    drop_token_details(choice)


def drop_token_details(choice: Json) -> None:
    """Log-probabilities and token ids spell out every token of a text."""
    for field in ("logprobs", "token_ids"):
        if choice.get(field) is not None:
            choice[field] = None


def choices_of(answer: Json) -> list[Json]:
    """The choices that can be read."""
    choices = answer.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def choice_number(choice: Json, position: int) -> int:
    """Which choice of the answer it is; its position where the engine does not say."""
    index = choice.get("index")
    if isinstance(index, str) and index.isdecimal() and len(index) < 10:
        index = int(index)
    return index if type(index) is int and 0 <= index < 2**31 else position


def finish_reason_of(choice: Json) -> str:
    """Why a choice ended; "" while it goes on."""
    reason = choice.get("finish_reason")
    return reason if isinstance(reason, str) else ""


def reports_error(answer: Json) -> bool:
    """Whether an object of an engine is an error in place of an answer."""
    return bool(answer.get("error")) or answer.get("object") == "error"


def token_count(value: Any) -> int | None:
    """A count that an engine reported; None where it is none."""
    if isinstance(value, str) and len(value) < 20:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, float) and math.isfinite(value):
        value = math.ceil(value)
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None
