"""Answers with details of their tokens, as engines send them, and what of them is passed on."""

from __future__ import annotations

import json
from typing import Any

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT, Endpoint
from serving.gateway.streams.relay import StreamRelay
from serving.guard import Guard, GuardSettings
from tests.serving.gateway.streams.leaks import decoded_events
from tests.support.scripted import DONE, chunk

GUARD = Guard(GuardSettings())
VALUES = [
    "jane.doe@example.org",
    "4111 1111 1111 1111",
    "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789AB",
    "+1 415 555 2671",
]
WORDS = ["Hello", " there", ", ", " a very ordinary sentence.", "\n", " é", " 🎉", " 联系 "]


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces, place = [], 0
    while place < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[place : place + size])
        place += size
    return pieces


def entry(token: str, others: list[str], written: str) -> dict[str, Any]:
    """A token's details as OpenAI writes them."""
    shown = f"token_id:{ord(token[0])}" if written == "ids" else token.replace(" ", "Ġ") if written == "raw" else token
    ranked = [{"token": other, "logprob": -1.0, "bytes": list(other.encode())} for other in others]
    return {"token": shown, "logprob": -0.5, "bytes": list(shown.encode()), "top_logprobs": ranked}


def details_of(tokens: list[str], others: list[list[str]], written: str, shape: str) -> dict[str, Any]:
    if shape == "chat":
        return {"content": [entry(token, ranked, written) for token, ranked in zip(tokens, others, strict=True)]}
    ranks = [{token: -0.5, **dict.fromkeys(ranked, -1.0)} for token, ranked in zip(tokens, others, strict=True)]
    return {
        "tokens": tokens,
        "token_logprobs": [-0.5] * len(tokens),
        "top_logprobs": ranks,
        "text_offset": [0] * len(tokens),
    }


def streamed(
    tokens: list[str],
    lag: int,
    per_event: int,
    *,
    shape: str = "chat",
    written: str = "plain",
    channel: str = "content",
    others: list[str] | None = None,
) -> bytes:
    """As vLLM streams: details with their tokens, the text `lag` characters later."""
    text, sent, data = "".join(tokens), 0, b""
    ranked = [[other] if other else [] for other in others] if others is not None else [[] for _ in tokens]
    for first in range(0, len(tokens), per_event):
        last = first + per_event
        end = len("".join(tokens[:last])) - lag if last < len(tokens) else len(text)
        piece, sent = text[sent : max(sent, end)], max(sent, end)
        more = {
            "logprobs": details_of(tokens[first:last], ranked[first:last], written, shape),
            "token_ids": [ord(c) for token in tokens[first:last] for c in token],
        }
        if channel == "arguments":
            delta: dict[str, Any] = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} if piece else {}
        else:
            delta = {channel: piece} if piece else {}
        if shape == "chat":
            data += chunk(delta, **more)
        else:
            choice = {"index": 0, "text": piece, "finish_reason": None, **more}
            data += b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"
    return data + chunk({}, "stop", stop_reason=None) + DONE


def relayed(data: bytes, step: int = 1000, endpoint: Endpoint = CHAT, guard: Guard = GUARD, **body: Any) -> bytes:
    context = RequestContext(endpoint, {}, b"")
    context.question.body = body
    relay = StreamRelay(context, guard)
    out = b"".join(relay.feed(data[start : start + step]) for start in range(0, len(data), step))
    relay.finish()
    return out + relay.close()


def texts(data: bytes) -> str:
    choices = [choice for event in decoded_events(data) for choice in event["choices"]]
    parts = [choice.get("delta", choice) for choice in choices]
    calls = [call["function"]["arguments"] for part in parts for call in part.get("tool_calls", ())]
    return "".join(part.get("content") or part.get("reasoning") or part.get("text") or "" for part in parts) + "".join(
        calls
    )


def tokens_of(data: bytes) -> list[str]:
    found = []
    for event in decoded_events(data):
        for choice in event["choices"]:
            details = choice.get("logprobs") or {}
            found += details.get("tokens") or [entry["token"] for entry in details.get("content") or ()]
    return found


def whole(text: str, **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **more}
    return json.dumps(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    ).encode()
