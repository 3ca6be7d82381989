"""Streams of `/v1/responses` and `/v1/messages`: events with names, in the shapes of vLLM's server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

PROMPT_TOKENS = 12
# What an answer's text stands in: the first item's first part.
_PART = {"item_id": "msg_standin", "output_index": 0, "content_index": 0}

Parts = tuple[list[bytes], list[bytes], list[bytes]]
"""Events before the text, one for each word, and those that end the stream."""


def response_parts(model: str, words: Sequence[str]) -> Parts:
    """A response whose text is `words`."""
    text = "".join(words)
    opening: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(model, None)},
        {"type": "response.output_item.added", "output_index": 0, "item": {**_item(""), "content": []}},
        {"type": "response.content_part.added", **_PART, "part": _text_part("")},
    ]
    deltas = [{"type": "response.output_text.delta", **_PART, "delta": word, "logprobs": []} for word in words]
    closing: list[dict[str, Any]] = [
        {"type": "response.output_text.done", **_PART, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **_PART, "part": _text_part(text)},
        {"type": "response.output_item.done", "output_index": 0, "item": _item(text)},
        {"type": "response.completed", "response": _response(model, text, len(words))},
    ]
    numbered = [
        _named({**event, "sequence_number": number}) for number, event in enumerate([*opening, *deltas, *closing])
    ]
    return numbered[: len(opening)], numbered[len(opening) : -len(closing)], numbered[-len(closing) :]


def message_parts(model: str, words: Sequence[str]) -> Parts:
    """A message of one block of text."""
    head = {"id": "msg_standin", "type": "message", "role": "assistant", "content": [], "model": model}
    opening: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**head, "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": 0}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words
    ]
    closing: list[dict[str, Any]] = [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
            "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": len(words)},
        },
        {"type": "message_stop"},
    ]
    return list(map(_named, opening)), list(map(_named, deltas)), list(map(_named, closing))


def _named(event: dict[str, Any]) -> bytes:
    data = json.dumps(event, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


def _response(model: str, text: str | None, num_tokens: int = 0) -> dict[str, Any]:
    """The whole response; `text` None: it has begun."""
    usage = {
        "input_tokens": PROMPT_TOKENS,
        "output_tokens": num_tokens,
        "total_tokens": PROMPT_TOKENS + num_tokens,
    }
    return {
        "id": "resp_standin",
        "object": "response",
        "created_at": 1_764_000_000,
        "model": model,
        "status": "in_progress" if text is None else "completed",
        "output": [] if text is None else [_item(text)],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None if text is None else usage,
    }


def _item(text: str) -> dict[str, Any]:
    done = {"id": "msg_standin", "type": "message", "role": "assistant", "status": "completed"}
    return {**done, "content": [_text_part(text)]}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
