"""The parts of an OpenAI answer that the gateway reads; everything else passes through unread."""

from __future__ import annotations

from typing import Any

import msgspec

# The finish reason of an answer that vLLM gives up because it is being stopped.
ABORTED = "abort"


class Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = 0


class FunctionPart(msgspec.Struct):
    arguments: str | None = None


class ToolCallPart(msgspec.Struct):
    index: int | None = None
    function: FunctionPart | None = None


class Message(msgspec.Struct):
    """A whole message, or the delta of one."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallPart] | None = None


class Choice(msgspec.Struct):
    index: int = 0
    delta: Message | None = None
    message: Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class Answer(msgspec.Struct):
    """One event of a streamed answer."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


class WholeAnswer(msgspec.Struct):
    """An answer in one piece."""

    choices: list[Choice]
    usage: Usage | None = None


# What bytes of an engine raise that are no JSON, no UTF-8, or nested as no answer is.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

decode_event = msgspec.json.Decoder(Answer).decode
decode_answer = msgspec.json.Decoder(WholeAnswer).decode
decode_any = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


def require_utf8(data: bytes) -> None:
    """Fields that are not read are passed on too. Raises UnicodeDecodeError."""
    if not data.isascii():
        data.decode()


# A text channel of one choice: the field's name, and for tool calls which call.
Channel = tuple[str, int]
_CONTENT: Channel = ("content", 0)
_TEXT: Channel = ("text", 0)
_REASONING: Channel = ("reasoning", 0)
_REASONING_CONTENT: Channel = ("reasoning_content", 0)
_REFUSAL: Channel = ("refusal", 0)


def texts_of(choice: Choice) -> list[tuple[Channel, str]]:
    """Every non-empty text that a choice carries, with the channel it belongs to."""
    found: list[tuple[Channel, str]] = []
    if choice.text:
        found.append((_TEXT, choice.text))
    part = choice.delta or choice.message
    if part is None:
        return found
    if part.content:
        found.append((_CONTENT, part.content))
    if part.reasoning:
        found.append((_REASONING, part.reasoning))
    if part.reasoning_content:
        found.append((_REASONING_CONTENT, part.reasoning_content))
    if part.refusal:
        found.append((_REFUSAL, part.refusal))
    if not part.tool_calls:
        return found
    for position, call in enumerate(part.tool_calls):
        if call.function is not None and call.function.arguments:
            index = position if call.index is None else call.index
            found.append((("arguments", index), call.function.arguments))
    return found


def set_text(choice: dict[str, Any], channel: Channel, text: str) -> None:
    """Write a text into the decoded JSON of a choice, and drop what would still spell out the old one."""
    field, index = channel
    part = choice.get("delta") or choice.get("message") or {}
    if field == "text":
        choice["text"] = text
    elif field == "arguments":
        for position, call in enumerate(part.get("tool_calls") or ()):
            if call.get("index", position) == index and call.get("function"):
                call["function"]["arguments"] = text
    else:
        part[field] = text
    drop_token_details(choice)


def drop_token_details(choice: dict[str, Any]) -> None:
    """Log-probabilities and token ids spell out every token of a text."""
    for field in ("logprobs", "token_ids"):
        if choice.get(field) is not None:
            choice[field] = None
