"""The bytes that the stand-in engine answers with, built once, in the shapes of vLLM's OpenAI server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from loadtests.tools.named_events import message_parts, response_parts

Endpoint = Literal["chat", "completions"]
StreamEndpoint = Literal["chat", "completions", "responses", "messages"]

# The size with which gateways were compared from the start: figures stay comparable.
PLAIN_BODY_BYTES = 376

# Ordinary prose: nothing in it looks like personal data, so a guard does its usual work and finds nothing.
PROSE = (
    "The river rose slowly through the night , and by morning the lower fields were a sheet of grey water "
    "from which only the tops of the fence posts could be seen . Nobody in the village was surprised : the "
    "old people had watched the swallows leave early , and the miller had moved his sacks upstairs in March ."
)
WORDS = PROSE.split()
# Every question has twelve tokens; the words of the answer are numbered from here.
PROMPT_IDS = list(range(1, 13))
FIRST_ID = 1000

_CREATED = 1_764_000_000
_NAMED = {"responses": response_parts, "messages": message_parts}
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
        "owned_by": "vllm",  # speaks its dialect: token ids in events and as prompts
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


@dataclass(frozen=True, slots=True)
class StreamAsked:
    """What of a request shapes its stream. The answer is the same words for all, so it can go on from anywhere."""

    model: str
    endpoint: StreamEndpoint
    num_chunks: int
    include_usage: bool = False
    token_ids: bool = False
    """`return_token_ids`: as vLLM, the prompt's with the first event, each word's with its own."""
    start: int = 0
    """Words of the answer that came with the prompt, as token ids: those that follow are given."""
    top_logprobs: int | None = None
    """`logprobs`: each word's, with so many alternatives; of a chat."""


@lru_cache(maxsize=256)
def stream_response(asked: StreamAsked) -> StreamBytes:
    """A streamed answer: `num_chunks` events of one word, each its own HTTP chunk, as vLLM sends it."""
    head = (
        b"HTTP/1.1 200 OK\r\nserver: standin\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    if asked.endpoint in _NAMED:
        words = [f" {WORDS[place % len(WORDS)]}" for place in range(asked.num_chunks)]
        opening, texts, closing = _NAMED[asked.endpoint](asked.model, words)
    else:
        opening = [_role_event(asked)] if asked.endpoint == "chat" else []
        texts = [_text_event(asked, place) for place in range(asked.num_chunks)]
        closing = [_usage_event(asked)] if asked.include_usage else []
        closing.append(b"data: [DONE]\n\n")
    frames = [_http_chunk(event) for event in texts]
    # The closing events follow the last token in the same step of an engine: one write.
    frames[-1] += b"".join(_http_chunk(event) for event in closing) + b"0\r\n\r\n"
    return StreamBytes(head + b"".join(_http_chunk(event) for event in opening) + frames[0], tuple(frames[1:]))


def answer_text(num_tokens: int) -> str:
    """The text of every streamed answer of so many tokens."""
    return "".join(f" {WORDS[place % len(WORDS)]}" for place in range(num_tokens))


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


def _envelope(model: str, endpoint: StreamEndpoint, kind: str) -> dict[str, Any]:
    return {"id": _IDS[endpoint], "object": kind, "created": _CREATED, "model": model}


def _event(asked: StreamAsked, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> dict[str, Any]:
    kind = "chat.completion.chunk" if asked.endpoint == "chat" else "text_completion"
    event = _envelope(asked.model, asked.endpoint, kind) | {"choices": choices}
    # OpenAI and vLLM put "usage": null into every event of a stream whose client asked for usage.
    return event | {"usage": usage} if asked.include_usage else event


def _role_event(asked: StreamAsked) -> bytes:
    delta = {"role": "assistant", "content": ""}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    prompt = {"prompt_token_ids": PROMPT_IDS} if asked.token_ids else {}
    return _as_event(_event(asked, [choice]) | prompt)


def _text_event(asked: StreamAsked, place: int) -> bytes:
    number = (asked.start + place) % len(WORDS)
    choice: dict[str, Any] = {"index": 0}
    if asked.endpoint == "chat":
        choice["delta"] = {"content": f" {WORDS[number]}"}
    else:
        choice["text"] = f" {WORDS[number]}"
    logprobs = None if asked.top_logprobs is None else {"content": [_logprob(number, asked.top_logprobs)]}
    choice |= {"logprobs": logprobs, "finish_reason": "length" if place == asked.num_chunks - 1 else None}
    if asked.token_ids:
        if asked.endpoint == "completions" and place == 0:
            choice["prompt_token_ids"] = PROMPT_IDS
        choice["token_ids"] = [FIRST_ID + number]
    return _as_event(_event(asked, [choice]))


def _logprob(number: int, num_alternatives: int) -> dict[str, Any]:
    """A word's own, and its neighbours as alternatives, the likeliest first."""
    near = [(f" {WORDS[(number + step) % len(WORDS)]}", -0.25 - 1.5 * step) for step in range(max(num_alternatives, 1))]
    rated = [{"token": word, "logprob": value, "bytes": list(word.encode())} for word, value in near]
    return rated[0] | {"top_logprobs": rated[:num_alternatives]}


def _usage_event(asked: StreamAsked) -> bytes:
    prompt, completion = len(PROMPT_IDS) + asked.start, asked.num_chunks
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return _as_event(_event(asked, [], usage))


def _as_event(event: dict[str, Any]) -> bytes:
    return b"data: " + _dump(event) + b"\n\n"


def _http_chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)
