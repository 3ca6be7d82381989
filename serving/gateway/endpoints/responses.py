"""`/v1/responses`, OpenAI's (https://platform.openai.com/docs/api-reference/responses), as far as the engine has it.

The gateway keeps no answers: what needs one kept (`previous_response_id`, `conversation`, `background`) is refused,
and the engine, which does not tell tenants apart, is asked to store nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

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
from serving.gateway.streams.texts import is_identifier

if TYPE_CHECKING:
    from serving.gateway.settings import GatewaySettings

_encode = msgspec.json.Encoder().encode

_TEXT_FIELDS = frozenset({"text", "refusal", "arguments", "input", "code", "output", "delta"})
_NO_TEXT_WITHIN = frozenset({"logprobs", "annotations", "tools", "format", "response"})
_LAST = frozenset({"response.completed", "response.incomplete"})
_DELTA_FIELDS = frozenset(
    {"type", "item_id", "output_index", "content_index", "summary_index", "sequence_number", "delta", "logprobs"}
)
_WHOLE = frozenset({"response.created", "response.queued", "response.in_progress"})
_WHOLE_ENDS = (".done", ".added", ".completed")
_FAILED = frozenset({"error", "response.failed"})
_NEED_MEMORY = {
    "previous_response_id": "Send the earlier turns in 'input'",
    "conversation": "Send the earlier turns in 'input'",
    "background": "Wait for the answer, or stream it",
}
# They would come back with token ids, which spell out what cleaning took away.
_RAW_ANSWERS = ("enable_response_messages", "previous_input_messages")


class _Piece(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["response.output_text.delta"]
    delta: str
    item_id: str = ""
    output_index: int = 0
    content_index: int = 0
    sequence_number: int = 0
    logprobs: Annotated[list[Any], msgspec.Meta(max_length=0)] | None = None


_decode_piece = msgspec.json.Decoder(_Piece).decode


@lru_cache(maxsize=256)
def _is_item(name: str) -> bool:
    """Whether this names an item: as each of its events does again."""
    return is_identifier("item_id", name)


class Responses(Endpoint):
    path = "/v1/responses"
    name = "responses"
    streams = True
    generates = True
    is_billed = True
    cleans_answer = True
    conversation_field = "input"
    length_fields = ("max_output_tokens",)
    parameter_names: ClassVar[dict[str, str]] = {"max_tokens": "max_output_tokens"}
    numbers_events = True

    def check(self, body: Json, settings: GatewaySettings) -> None:
        for name, instead in _NEED_MEMORY.items():
            if body.get(name):
                raise BadRequest(f"{name!r} is not supported: no answers are kept here. {instead}.", param=name)
        for name in _RAW_ANSWERS:
            if body.get(name):
                raise BadRequest(f"{name!r} cannot be set by a request.", param=name, code="field_refused")
        body["store"] = False

    def prompt_texts(self, body: Json) -> Iterator[str]:
        yield from texts_in(body.get("instructions"))
        yield from texts_in(body.get("input"))

    def set_messages(self, body: Json, messages: list[Json]) -> None:
        conversation = body.get("input")
        items = [{"role": "user", "content": conversation}] if isinstance(conversation, str) else conversation or []
        if not isinstance(items, list):
            raise BadRequest("'input' must be text or a list of items.", param="input")
        body["input"] = messages + items

    def usage(self, answer: Json) -> Usage | None:
        usage = _response(answer).get("usage")
        if not isinstance(usage, dict):
            return None
        return Usage(count_of(usage.get("input_tokens")), count_of(usage.get("output_tokens")))

    def finish_reason(self, answer: Json) -> str:
        response = _response(answer)
        details = response.get("incomplete_details")
        if isinstance(details, dict):
            return "length" if details.get("reason") == "max_output_tokens" else str(details.get("reason") or "")
        if response.get("status") != "completed":
            return ""
        called = any(isinstance(i, dict) and i.get("type") == "function_call" for i in response.get("output") or ())
        return "tool_calls" if called else "stop"

    def text_fields(self, answer: Json) -> list[TextField]:
        return list(_text_fields(answer.get("output")))

    def write_answer(self, written: WrittenAnswer) -> Json:
        own, prompt, completion = written.choices[0], written.prompt_tokens, written.completion_tokens
        filtered = own.finish_reason == FILTERED
        part = {"type": "output_text", "text": own.text, "annotations": []}
        status = "incomplete" if filtered else "completed"
        item_id = f"msg_{written.number}"
        item = {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": [part]}
        return {
            "id": f"resp_{written.number}",
            "object": "response",
            "created_at": written.created,
            "model": written.model,
            "status": status,
            "incomplete_details": {"reason": FILTERED} if filtered else None,
            "error": None,
            "instructions": None,
            "metadata": {},
            "output": [item],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "temperature": None,
            "top_p": None,
            "usage": {
                "input_tokens": prompt,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": completion,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": prompt + completion,
            },
        }

    def write_stream(self, written: WrittenAnswer) -> list[bytes]:
        response = self.write_answer(written)
        item = response["output"][0]
        part = item["content"][0]
        ids = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        begun = {**response, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
        opened = {**item, "status": "in_progress", "content": []}
        events: list[Json] = [
            {"type": "response.created", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": opened},
            {"type": "response.content_part.added", **ids, "part": {**part, "text": ""}},
            {"type": "response.output_text.delta", **ids, "delta": part["text"], "logprobs": []},
            {"type": "response.output_text.done", **ids, "text": part["text"], "logprobs": []},
            {"type": "response.content_part.done", **ids, "part": part},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": f"response.{response['status']}", "response": response},
        ]
        return [named_event({**event, "sequence_number": number}) for number, event in enumerate(events)]

    def read_piece(self, data: bytes) -> tuple[Channel, str] | None:
        try:
            piece = _decode_piece(data)
        except UNREADABLE:
            return None
        if not _is_item(piece.item_id):
            return None
        return ("text", whole_number(piece.output_index), whole_number(piece.content_index)), piece.delta

    def read_event(self, data: Json) -> Event:
        kind = data.get("type")
        if not isinstance(kind, str):
            return Event()
        if kind in _FAILED:
            return Event(failed=True)
        item = whole_number(data.get("output_index"))
        delta = data.get("delta")
        if kind.endswith(".delta") and isinstance(delta, str):
            name = kind.removeprefix("response.").removesuffix(".delta")
            part = whole_number(data.get("content_index")) or whole_number(data.get("summary_index"))
            return Event(channel=("text" if name == "output_text" else name, item, part), text=delta)
        if kind in _LAST:
            return Event(ends=ALL, closing=True, last=True)
        whole = kind in _WHOLE or kind.endswith(_WHOLE_ENDS)
        return Event(ends=item if kind.endswith(".done") else None, whole=whole, item=item)

    def is_usual(self, data: Json) -> bool:
        item = data.get("item_id")
        return data.keys() <= _DELTA_FIELDS and (item is None or (isinstance(item, str) and is_identifier("id", item)))

    def write_text(self, data: Json, text: str) -> None:
        data["delta"] = text
        if data.get("logprobs"):
            data["logprobs"] = []

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        # OpenAI's clients raise what has `error`, and take `type` for the kind of event.
        body = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        envelope = msgspec.json.decode(error.body())
        return b"event: error\ndata: " + _encode({**body, **envelope}) + b"\n\n"


def _response(answer: Json) -> Json:
    """The response itself: the whole answer, or what an event repeats of it."""
    inner = answer.get("response")
    return inner if isinstance(inner, dict) else answer


def _text_fields(value: Any) -> Iterator[TextField]:
    """Texts of output items and their parts. A tool's arguments are text too, and cleaned as such."""
    if isinstance(value, list):
        for item in value:
            yield from _text_fields(item)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, str):
                if name in _TEXT_FIELDS:
                    yield TextField(value, name)
            elif name not in _NO_TEXT_WITHIN:
                yield from _text_fields(inner)


RESPONSES = Responses()
