"""`/v1/messages` and its `count_tokens`, Anthropic's (https://docs.anthropic.com/en/api/messages)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import msgspec

from serving.gateway.endpoints.endpoint import (
    ALL,
    Channel,
    Endpoint,
    Event,
    Json,
    TextField,
    Usage,
    count_of,
    named_event,
    texts_in,
    whole_number,
)
from serving.gateway.endpoints.texts import FILTERED, WrittenAnswer
from serving.gateway.errors import BadRequest, GatewayError
from serving.gateway.streams.chunks import UNREADABLE

_encode = msgspec.json.Encoder().encode

_DELTA_FIELDS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class _TextDelta(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text_delta"]
    text: str


class _Piece(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["content_block_delta"]
    index: int
    delta: _TextDelta


_decode_piece = msgspec.json.Decoder(_Piece).decode


class CountTokens(Endpoint):
    """What a message would cost to ask. Nothing is generated."""

    path = "/v1/messages/count_tokens"
    name = "messages"

    def prompt_texts(self, body: Json) -> Iterator[str]:
        yield from texts_in(body.get("system"))
        yield from texts_in(body.get("messages"))

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        """Anthropic's error object, with our stable `code` and `param` besides."""
        kind = _ERROR_TYPES.get(error.http_status) or ("api_error" if error.http_status >= 500 else _ERROR_TYPES[400])
        problem = {"type": kind, "message": error.message, "code": error.code, "param": error.param}
        return _encode({"type": "error", "error": problem, "request_id": request_id})


class Messages(CountTokens):
    path = "/v1/messages"
    streams = True
    generates = True
    is_billed = True
    cleans_answer = True
    length_fields = ("max_tokens",)
    parameter_names: ClassVar[dict[str, str]] = {"stop": "stop_sequences"}

    def set_messages(self, body: Json, messages: list[Json]) -> None:
        conversation = body.get("messages")
        if conversation is not None and not isinstance(conversation, list):
            raise BadRequest("'messages' must be a list.", param="messages")
        system: list[Any] = [message["content"] for message in messages if message["role"] == "system"]
        if system:
            own = body.get("system") or []
            blocks = [{"type": "text", "text": own}] if isinstance(own, str) else own
            if not isinstance(blocks, list):
                raise BadRequest("'system' must be text or a list of blocks.", param="system")
            body["system"] = [{"type": "text", "text": text + "\n\n"} for text in system] + blocks
        body["messages"] = [message for message in messages if message["role"] != "system"] + (conversation or [])

    def usage(self, answer: Json) -> Usage | None:
        usage = answer.get("usage")
        if not isinstance(usage, dict):
            message = answer.get("message")
            usage = message.get("usage") if isinstance(message, dict) else None
        if not isinstance(usage, dict):
            return None
        # Anthropic counts what came from the cache apart.
        parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        return Usage(sum(whole_number(usage.get(part)) for part in parts), count_of(usage.get("output_tokens")))

    def finish_reason(self, answer: Json) -> str:
        holder = answer.get("delta") if answer.get("type") == "message_delta" else answer
        reason = holder.get("stop_reason") if isinstance(holder, dict) else None
        return _FINISH_REASONS.get(reason, reason) if isinstance(reason, str) else ""

    def text_fields(self, answer: Json) -> list[TextField]:
        blocks = answer.get("content")
        return (
            [text_field for block in blocks for text_field in _text_fields(block)] if isinstance(blocks, list) else []
        )

    def write_answer(self, written: WrittenAnswer) -> Json:
        own = written.choices[0]
        return {
            "id": f"msg_{written.number}",
            "type": "message",
            "role": "assistant",
            "model": written.model,
            "content": [{"type": "text", "text": own.text}],
            "stop_reason": "refusal" if own.finish_reason == FILTERED else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": written.prompt_tokens, "output_tokens": written.completion_tokens},
        }

    def write_stream(self, written: WrittenAnswer) -> list[bytes]:
        message = self.write_answer(written)
        usage, end = message["usage"], {"stop_reason": message["stop_reason"], "stop_sequence": None}
        begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 0}}
        delta = {"type": "text_delta", "text": written.choices[0].text}
        events: list[Json] = [
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": end, "usage": usage},
            {"type": "message_stop"},
        ]
        return [named_event(event) for event in events]

    def unfold(self, data: Json) -> list[Json]:
        """A block that begins with text is an empty block and a first piece."""
        block = data.get("content_block")
        if data.get("type") != "content_block_start" or not isinstance(block, dict):
            return [data]
        kind = block.get("type")
        if kind not in ("text", "thinking") or not block.get(kind):
            return [data]
        delta = {"type": f"{kind}_delta", kind: block[kind]}
        piece = {"type": "content_block_delta", "index": data.get("index"), "delta": delta}
        return [{**data, "content_block": {**block, kind: ""}}, piece]

    def read_piece(self, data: bytes) -> tuple[Channel, str] | None:
        try:
            piece = _decode_piece(data)
        except UNREADABLE:
            return None
        return ("text", whole_number(piece.index), 0), piece.delta.text

    def read_event(self, data: Json) -> Event:
        kind = data.get("type")
        index = whole_number(data.get("index"))
        if kind == "content_block_delta":
            delta: Any = data.get("delta")
            field = _text_field(delta)
            return Event(channel=(field, index, 0), text=delta[field]) if field else Event(whole=False, item=index)
        if kind == "content_block_start":
            return Event(text_fields=list(_text_fields(data.get("content_block"))))
        if kind == "content_block_stop":
            return Event(ends=index)
        if kind == "message_delta":
            # Some engines tell the usage in several of them; the last one has the reason.
            ends = bool(self.finish_reason(data))
            return Event(ends=ALL if ends else None, closing=ends)
        if kind == "message_stop":
            return Event(ends=ALL, closing=True, last=True)
        return Event(failed=kind == "error")

    def write_text(self, data: Json, text: str) -> None:
        field = _text_field(data["delta"])
        data["delta"][field or "text"] = text

    def is_usual(self, data: Json) -> bool:
        return len(data) == 3 and len(data["delta"]) == 2


def _text_field(delta: Any) -> str:
    """Where the text of a delta stands; "": it has none, or several."""
    if not isinstance(delta, dict):
        return ""
    known = _DELTA_FIELDS.get(str(delta.get("type")))
    if known is not None:
        return known if isinstance(delta.get(known), str) else ""
    fields = [name for name, value in delta.items() if name != "type" and isinstance(value, str)]
    return fields[0] if len(fields) == 1 else ""


def _text_fields(block: Any) -> Iterator[TextField]:
    """Texts of one block; a tool's input is JSON that is parsed already."""
    if not isinstance(block, dict):
        return
    for name in ("text", "thinking"):
        if isinstance(block.get(name), str):
            yield TextField(block, name)
    if block.get("input"):
        yield TextField(block, "input", parsed=True)


MESSAGES = Messages()
COUNT_TOKENS = CountTokens()
