"""What an engine streams for `/v1/responses` and `/v1/messages`, as vLLM does it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.support.scripted import EVENTS


def event(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def response_object(text: str, status: str = "completed") -> dict[str, Any]:
    usage = {"input_tokens": 11, "output_tokens": 13, "total_tokens": 24}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "scripted",
        "status": status,
        "output": [message_item(text)] if status == "completed" else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage if status == "completed" else None,
    }


def message_item(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def response_events(pieces: Sequence[str]) -> list[bytes]:
    """The named events of a response whose text comes in `pieces`."""
    text = "".join(pieces)
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response_object("", "in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": {**message_item(""), "content": []}},
        {"type": "response.content_part.added", **place, "part": message_item("")["content"][0]},
        *(
            {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": [{"token": piece}]}
            for piece in pieces
        ),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": message_item(text)["content"][0]},
        {"type": "response.output_item.done", "output_index": 0, "item": message_item(text)},
        {"type": "response.completed", "response": response_object(text)},
    ]
    return [event({**data, "sequence_number": number}) for number, data in enumerate(events)]


def message_events(blocks: Sequence[tuple[str, Sequence[str]]]) -> list[bytes]:
    """The named events of a message whose blocks (`text`, `thinking` or `tool_use`) come in pieces."""
    usage = {"input_tokens": 11, "output_tokens": 0}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "scripted"}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {**head, "usage": usage}}]
    for index, (kind, pieces) in enumerate(blocks):
        start, delta = _BLOCKS[kind]
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [
            {"type": "content_block_delta", "index": index, "delta": {"type": delta, _FIELD[delta]: piece}}
            for piece in pieces
        ]
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ended, "usage": {"input_tokens": 11, "output_tokens": 13}})
    events.append({"type": "message_stop"})
    return [event(data) for data in events]


def stream_of(events: Sequence[bytes]) -> list[object]:
    """A script's steps: one network write an event."""
    return [EVENTS, *events]


_BLOCKS = {
    "text": ({"type": "text", "text": ""}, "text_delta"),
    "thinking": ({"type": "thinking", "thinking": "", "signature": ""}, "thinking_delta"),
    "tool_use": ({"type": "tool_use", "id": "call_1", "name": "send", "input": {}}, "input_json_delta"),
}
_FIELD = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
