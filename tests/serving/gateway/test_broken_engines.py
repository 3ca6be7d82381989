"""Engines that send what no engine should: the client gets an answer or one well-formed error, no fault of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.load import outcome_of
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import CLOSE, DONE, EVENTS, ScriptedEngine, answer, chunk, head, stream, whole
from tests.support.token_engine import CARD

MIB = 1024 * 1024
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
JSON_CHUNKED = CHUNKED % b"application/json"
SSE_CHUNKED = CHUNKED % b"text/event-stream"
GOOD = json.dumps(answer("hello")).encode()
DEEP = b"[" * 100_000 + b"]" * 100_000
TEXT = chunk({"content": "before "})
# Cut inside the three bytes of one character.
HALF_CHARACTER = chunk({"content": "x"}).replace(b"x", "水".encode())[: chunk({"content": "x"}).index(b"x") + 2]


def body(data: bytes, content_type: str = "application/json", status: int = 200) -> list[object]:
    return [head(status, content_type, len(data)) + data]


def says(value: Any) -> list[object]:
    return body(json.dumps(value).encode())


def event(value: Any) -> list[object]:
    return [EVENTS, TEXT, b"data: " + json.dumps(value).encode() + b"\n\n", DONE]


def choice(**fields: Any) -> dict[str, Any]:
    return {**answer("x"), "choices": [{**answer("x")["choices"][0], **fields}]}


# What cannot be an answer, and must end in an error.
GARBAGE: dict[str, list[object]] = {
    "no-http": [b"\x16\x03\x01\x02\x00\x01\x00\xff\xfe", CLOSE],
    "another-protocol": [b"SSH-2.0-OpenSSH_9.2\r\n", CLOSE],
    "silence": [CLOSE],
    "half-a-head": [b"HTTP/1.1 200 OK\r\ncontent-ty", CLOSE],
    "endless-head": [b"HTTP/1.1 200 OK\r\n", *[b"x-filler: " + b"a" * 60_000 + b"\r\n"] * 20, CLOSE],
    "impossible-status": [b"HTTP/1.1 999999 What\r\ncontent-length: 2\r\n\r\n{}", CLOSE],
    "bad-length": [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: -5\r\n\r\n{}", CLOSE],
    "two-lengths": [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ", CLOSE],
    "bad-chunk-size": [JSON_CHUNKED + b"zz\r\n" + GOOD, CLOSE],
    "bad-chunk-size-in-a-stream": [SSE_CHUNKED + b"%x\r\n%b\r\n" % (len(TEXT), TEXT), b"-1\r\n", CLOSE],
    "closes-in-a-chunk": [SSE_CHUNKED + b"%x\r\n%b" % (len(TEXT) + 50, TEXT), CLOSE],
    "closes-in-an-event": [EVENTS, TEXT, TEXT[:20], CLOSE],
    "closes-in-a-character": [EVENTS, TEXT, HALF_CHARACTER, CLOSE],
    "closes-without-a-finish": [EVENTS, TEXT, CLOSE],
    "empty": body(b""),
    "no-content": [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "redirect": [b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"],
    "half-an-answer": [head(length=len(GOOD)), GOOD[:40], CLOSE],
    "bad-json": body(b'{"choices": [}'),
    "bad-utf-8": body(GOOD.replace(b"hello", b"\xff\xfe")),
    "a-page": body(b"<html><h1>It works!</h1></html>", "text/html"),
    "null": says(None),
    "an-array": says([1, 2]),
    "no-choices": says({"id": "x"}),
    "choices-null": says({**answer("x"), "choices": None}),
    "choices-of-null": says({**answer("x"), "choices": [None]}),
    "a-page-as-a-refusal": body(b"<html>Traceback (most recent call last)</html>", "text/html", 400),
    "a-page-as-a-failure": body(b"<html>Traceback (most recent call last)</html>", "text/html", 500),
    "a-large-failure": body(b"x" * MIB, "text/plain", 500),
    "an-early-end": [EVENTS, b"data: ", CLOSE],
    "bad-json-in-an-event": [EVENTS, TEXT, b'data: {"choices": [}\n\n', DONE],
    "bad-utf-8-in-an-event": [EVENTS, TEXT, TEXT.replace(b"before", b"\xff\xfe"), DONE],
    "event-with-an-error": event({"error": {"message": "CUDA out of memory", "code": 500}}),
    "endless-event": [EVENTS, TEXT, b"data: ", *[b"a" * MIB] * 20, CLOSE],
    "bad-utf-8-in-an-unread-field": body(GOOD[:-1] + b', "x": "\xff", "y": "jane@example.org"}'),
    "bad-utf-8-in-an-unread-field-of-an-event": [
        *[EVENTS, TEXT, TEXT.replace(b'"scripted"', b'"\xff"').replace(b"before", b"jane@example.org"), DONE]
    ],
    "deep-event": [EVENTS, TEXT, b"data: " + DEEP + b"\n\n", DONE],
    "deep-answer": body(DEEP),
    "an-error-in-a-200": says({"error": {"message": "CUDA out of memory", "code": 500}}),
}  # fmt: skip

# Strange, and yet an answer to those who read it kindly: either is right, a fault of ours is not.
STRANGE: dict[str, list[object]] = {
    "message-null": says(choice(message=None)),
    "content-a-number": says(choice(message={"role": "assistant", "content": 5})),
    "index-text": says(choice(index="first")),
    "finish-a-number": says(choice(finish_reason=7)),
    "usage-text": says({**answer("x"), "usage": {"prompt_tokens": "many", "completion_tokens": -1}}),
    "usage-huge": says({**answer("x"), "usage": {"prompt_tokens": 2**80, "completion_tokens": 2**80}}),
    "usage-a-list": says({**answer("x"), "usage": [1]}),
    "empty-choices": says({**answer("x"), "choices": []}),
    "event-of-null": event(None),
    "event-of-an-array": event([1]),
    "event-choices-null": event({"choices": None}),
    "event-choice-null": event({"choices": [None]}),
    "event-delta-text": event({"choices": [{"index": 0, "delta": "text"}]}),
    "event-delta-null": event({"choices": [{"index": 0, "delta": None}]}),
    "event-index-huge": event({"choices": [{"index": 2**70, "delta": {"content": "x"}}]}),
    "event-index-negative": event({"choices": [{"index": -1, "delta": {"content": "x"}}]}),
    "event-content-a-list": event({"choices": [{"index": 0, "delta": {"content": ["x"]}}]}),
    "event-tokens-text": event({"choices": [{"index": 0, "delta": {"content": "x"}, "token_ids": "abc"}]}),
    "event-usage-text": event({"choices": [], "usage": {"completion_tokens": "many"}}),
    "event-usage-huge": event({"choices": [], "usage": {"prompt_tokens": 2**80, "completion_tokens": 2**80}}),
    "other-fields": [EVENTS, b"event: ping\nid: 7\nretry: 10\n\n: comment\n\n", *stream(["a", "b"])[1:]],
    "an-event-stream-in-another-type": [head(content_type="text/plain"), *stream(["a"])[1:]],
    "event-tokens-words": event({"choices": [{"index": 0, "delta": {"content": "x"}, "token_ids": ["a"]}]}),
    "event-tokens-huge": event({"choices": [{"index": 0, "delta": {"content": "x"}, "token_ids": [2**70, -1]}]}),
    "deep-field": [EVENTS, TEXT, b'data: {"x": ' + DEEP + b', "choices": []}\n\n', DONE],
    "deep-field-of-an-answer": body(GOOD[:-1] + b', "x": ' + DEEP + b"}"),
    "lone-surrogate": [EVENTS, b'data: {"choices": [{"index": 0, "delta": {"content": "\\ud83d"}}]}\n\n', DONE],
}  # fmt: skip

# Rare, and right.
UNUSUAL: dict[str, list[object]] = {
    "early-hints": [b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", *whole(answer("hello"))],
    "continue": [b"HTTP/1.1 100 Continue\r\n\r\n", *whole(answer("hello"))],
    "a-slow-head": [0.4, *whole(answer("hello"))],
    "a-head-in-pieces": [bytes([byte]) for byte in head(length=len(GOOD)) + GOOD],
    "a-slow-body": [head(length=len(GOOD)), GOOD[:20], 0.4, GOOD[20:]],
    "one-byte-chunks": [JSON_CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD) + b"0\r\n\r\n"],
    "chunk-extensions-and-trailers": [JSON_CHUNKED + b"%x;q=1\r\n%b\r\n0\r\nx-trailer: 1\r\n\r\n" % (len(GOOD), GOOD)],
    "until-it-closes": [head() + GOOD, CLOSE],
    "http-1.0": [b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + GOOD, CLOSE],
}


@pytest.fixture(scope="module")
def garbler() -> Iterator[ScriptedEngine]:
    scripted = ScriptedEngine()
    # As vLLM, so that tokens are read too.
    scripted.fixed_paths["/v1/models"] = json.dumps({"object": "list", "data": [CARD]}).encode()
    yield scripted
    scripted.stop()


@pytest.fixture(scope="module")
def one(garbler: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    settings = {"SIGNET_GATEWAY__CIRCUIT__CONSECUTIVE_FAILURES": "1000", "SIGNET_GATEWAY__CIRCUIT__WINDOW": "1000"}
    settings["SIGNET_GATEWAY__FAILOVER__ENGINE_WAIT_S"] = "0"
    running = start_gateway(tmp_path_factory.mktemp("garbage"), garbler.url, **settings)
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "the engine is up", running.process)
    yield running
    stop_gateway(running)


def outcome(gateway: RunningGateway, streams: bool) -> str:
    question = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}], "stream": streams}
    headers = {"authorization": f"Bearer {gateway.key}"}
    answered = httpx.post(f"{gateway.url}/v1/chat/completions", json=question, headers=headers, timeout=20)
    assert "Traceback" not in answered.text
    assert answered.status_code != 500
    return outcome_of(answered.status_code, answered.headers["content-type"], answered.content, None)


def check_gateway(gateway: RunningGateway, garbler: ScriptedEngine) -> None:
    """Unhurt: it answers, holds nothing, and has logged no fault of its own."""
    garbler.script = lambda _: whole(answer("hello"))
    assert outcome(gateway, streams=False) == "complete"
    assert "signet_gateway_in_flight 0.0" in httpx.get(f"{gateway.url}/metrics").text
    assert "Traceback" not in (gateway.home / "gateway.log").read_text()


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_ends_in_one_well_formed_error(
    name: str, streams: bool, one: RunningGateway, garbler: ScriptedEngine
) -> None:
    garbler.script = lambda _: GARBAGE[name]
    ended = outcome(one, streams)
    assert ended.split()[0] in ("refused", "ended"), ended
    assert ended.split()[1] != "internal_error"
    check_gateway(one, garbler)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", STRANGE)
def test_strange_answers_are_no_fault_of_ours(
    name: str, streams: bool, one: RunningGateway, garbler: ScriptedEngine
) -> None:
    garbler.script = lambda _: STRANGE[name]
    ended = outcome(one, streams)
    assert ended.split()[0] in ("complete", "refused", "ended"), ended
    assert not ended.endswith("internal_error")
    check_gateway(one, garbler)


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_answers_are_answers(name: str, one: RunningGateway, garbler: ScriptedEngine) -> None:
    garbler.script = lambda _: UNUSUAL[name]
    assert outcome(one, streams=False) == "complete"
    check_gateway(one, garbler)
