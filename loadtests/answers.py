"""The bytes that the stand-in engine answers with, built once, in the shapes of vLLM's OpenAI server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

Endpoint = Literal["chat", "completions"]

# The size with which gateways were compared from the start: figures stay comparable.
PLAIN_BODY_BYTES = 376

# Ordinary prose: nothing in it looks like personal data, so a guard does its usual work and finds nothing.
PROSE = (
    "The river rose slowly through the night , and by morning the lower fields were a sheet of grey water "
    "from which only the tops of the fence posts could be seen . Nobody in the village was surprised : the "
    "old people had watched the swallows leave early , and the miller had moved his sacks upstairs in March ."
)
WORDS = PROSE.split()

_CREATED = 1_764_000_000
_IDS = {"chat": "chatcmpl-7f3a9d1c5b2e4860", "completions": "cmpl-7f3a9d1c5b2e4860"}


@dataclass(frozen=True, slots=True)
class StreamBytes:
    """One streamed answer: `opening` is the head with the first token, `rest` one entry per later write."""

    opening: bytes
    rest: tuple[bytes, ...]

    @property
    def whole(self) -> bytes:
        return self.opening + b"".join(self.rest)


def http_response(status: str, body: bytes, content_type: str = "application/json") -> bytes:
    """A complete HTTP/1.1 response with a length."""
    fields = f"server: standin\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}"
    return f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode() + body


def error_response(status: str, message: str, code: str) -> bytes:
    """An OpenAI-shaped error."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return http_response(status, _dump({"error": error}))


def models_response(model: str) -> bytes:
    card = {
        "id": model,
        "object": "model",
        "created": _CREATED,
        "owned_by": "standin",
        "max_model_len": 32_768,
    }
    return http_response("200 OK", _dump({"object": "list", "data": [card]}))


@lru_cache
def plain_body(model: str, endpoint: Endpoint) -> bytes:
    """A non-streamed answer of `PLAIN_BODY_BYTES` bytes (longer where the model's name leaves no room)."""
    text = ""
    for word in _words():
        longer = f"{text} {word}".lstrip()
        if len(_plain(model, endpoint, longer)) > PLAIN_BODY_BYTES:
            break
        text = longer
    # The id takes up what is left of the size: letters in the text would be a word that no guard has to read.
    room = PLAIN_BODY_BYTES - len(_plain(model, endpoint, text))
    return _plain(model, endpoint, text, id_padding=max(room, 0))


@lru_cache
def plain_response(model: str, endpoint: Endpoint) -> bytes:
    return http_response("200 OK", plain_body(model, endpoint))


@lru_cache(maxsize=256)
def stream_response(model: str, endpoint: Endpoint, num_chunks: int, include_usage: bool) -> StreamBytes:
    """A streamed answer: `num_chunks` events of one word, each its own HTTP chunk, as vLLM sends it."""
    head = (
        b"HTTP/1.1 200 OK\r\nserver: standin\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    words = _words()
    texts = [_text_event(model, endpoint, next(words), i == num_chunks - 1, include_usage) for i in range(num_chunks)]
    role = [_role_event(model, include_usage)] if endpoint == "chat" else []
    closing = [_usage_event(model, endpoint, num_chunks)] if include_usage else []
    closing.append(b"data: [DONE]\n\n")
    frames = [_http_chunk(event) for event in texts]
    # The closing events follow the last token in the same step of an engine: one write.
    frames[-1] += b"".join(_http_chunk(event) for event in closing) + b"0\r\n\r\n"
    return StreamBytes(head + b"".join(_http_chunk(event) for event in role) + frames[0], tuple(frames[1:]))


def _words() -> Iterator[str]:
    while True:
        yield from WORDS


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _plain(model: str, endpoint: Endpoint, text: str, id_padding: int = 0) -> bytes:
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": "stop"}
    if endpoint == "chat":
        choice["message"] = {"role": "assistant", "content": text}
    else:
        choice["text"] = text
    usage = {"prompt_tokens": 12, "completion_tokens": 24, "total_tokens": 36}
    kind = "chat.completion" if endpoint == "chat" else "text_completion"
    envelope = _envelope(model, endpoint, kind)
    envelope["id"] += "0" * id_padding
    return _dump(envelope | {"choices": [choice], "usage": usage})


def _envelope(model: str, endpoint: Endpoint, kind: str) -> dict[str, Any]:
    return {"id": _IDS[endpoint], "object": kind, "created": _CREATED, "model": model}


def _event(model: str, endpoint: Endpoint, choices: list[dict[str, Any]], usage: dict[str, int] | bool | None) -> bytes:
    kind = "chat.completion.chunk" if endpoint == "chat" else "text_completion"
    event = _envelope(model, endpoint, kind) | {"choices": choices}
    # OpenAI and vLLM put "usage": null into every event of a stream whose client asked for usage.
    if usage is not False:
        event["usage"] = usage
    return b"data: " + _dump(event) + b"\n\n"


def _role_event(model: str, include_usage: bool) -> bytes:
    delta = {"role": "assistant", "content": ""}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return _event(model, "chat", [choice], None if include_usage else False)


def _text_event(model: str, endpoint: Endpoint, word: str, last: bool, include_usage: bool) -> bytes:
    choice: dict[str, Any] = {"index": 0}
    if endpoint == "chat":
        choice["delta"] = {"content": f" {word}"}
    else:
        choice["text"] = f" {word}"
    choice |= {"logprobs": None, "finish_reason": "length" if last else None}
    return _event(model, endpoint, [choice], None if include_usage else False)


def _usage_event(model: str, endpoint: Endpoint, num_chunks: int) -> bytes:
    usage = {"prompt_tokens": 12, "completion_tokens": num_chunks, "total_tokens": 12 + num_chunks}
    return _event(model, endpoint, [], usage)


def _http_chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)
