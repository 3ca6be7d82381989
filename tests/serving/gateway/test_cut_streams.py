"""Streams that lose their engine in the middle, through a real gateway: the client must not notice."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

import httpx
import openai
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import CLOSE, DONE, EVENTS, HANG, ScriptedEngine, SeenRequest, head
from tests.support.token_engine import TokenEngine

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
PIECES = [
    b"The river",
    b" rose",
    b" slowly",
    b" \xe8\x81",
    b"\x94",
    b" mail",
    b" jane",
    b"@example.org",
    b" again",
    b".",
]
TEXT = "The river rose slowly \u8054 mail [EMAIL_ADDRESS] again."

Cut = Callable[[bytes], Iterable[object]]


def at(place: int) -> Cut:
    return lambda data: [data[:place], CLOSE]


def silent_at(place: int) -> Cut:
    return lambda data: [data[:place], HANG]


class Pair:
    """Two engines with one answer; `cuts` says what becomes of the first streams asked of either."""

    def __init__(self) -> None:
        self.tokens = TokenEngine(PIECES)
        self.engines = [ScriptedEngine(), ScriptedEngine()]
        self.cuts: list[Cut] = []
        self.asked: list[tuple[int, SeenRequest]] = []
        for number, engine in enumerate(self.engines):
            engine.script = lambda request, number=number: self._answer(number, request)  # type: ignore[misc]

    def _answer(self, number: int, request: SeenRequest) -> Iterator[object]:
        if request.target == "/detokenize":
            body = self.tokens.detokenize(request.body)
            yield head(length=len(body)) + body
            return
        self.asked.append((number, request))
        data = b"".join(self.tokens.stream(request.target, request.body))
        cut = self.cuts.pop(0) if self.cuts else lambda whole: [whole]
        yield EVENTS
        yield from cut(data)
        yield CLOSE

    def begin(self, *cuts: Cut) -> None:
        self.cuts, self.asked = list(cuts), []


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    for engine in made.engines:
        engine.stop()


@pytest.fixture(scope="module")
def two(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    settings = {
        "SIGNET_GATEWAY__CIRCUIT__CONSECUTIVE_FAILURES": "1000",
        "SIGNET_GATEWAY__CIRCUIT__WINDOW": "1000",
        "SIGNET_GATEWAY__FAILOVER__STALL_TIMEOUT_S": "0.3",
        "SIGNET_GATEWAY__FAILOVER__HANDOVER_GRACE_S": "0.2",
    }
    running = start_gateway(tmp_path_factory.mktemp("cut"), pair.engines[0].url, pair.engines[1].url, **settings)
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "an engine is up", running.process)
    yield running
    stop_gateway(running)


def read(gateway: RunningGateway, **fields: Any) -> tuple[str, Any, str]:
    """Text and usage of a stream, and its request id; the official client checks the rest."""
    create = gateway.client().chat.completions.with_raw_response.create
    raw = create(
        model="scripted", messages=HELLO, stream=True, stream_options={"include_usage": True}, max_tokens=100, **fields
    )
    text, usage, ids, roles, finishes = "", None, set(), 0, []
    for event in raw.parse():
        ids.add(event.id)
        usage = event.usage or usage
        for choice in event.choices:
            text += choice.delta.content or ""
            roles += choice.delta.role is not None
            finishes += [choice.finish_reason] if choice.finish_reason else []
    assert (len(ids), roles, finishes) == (1, 1, ["stop"])
    return text, usage, raw.headers["x-request-id"]


def records(gateway: RunningGateway, request_id: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(gateway.home / "signet.db")) as database:
        return database.execute(
            "select status, prompt_tokens, completion_tokens, continued from requests where request_id = ?",
            [request_id],
        ).fetchall()


@pytest.mark.parametrize("place", [0, 40, 150, 400, 700, 900, 1100, 1400, 1800, 2200])
def test_a_cut_stream_goes_on_elsewhere(place: int, pair: Pair, two: RunningGateway) -> None:
    pair.begin(at(place))

    text, usage, request_id = read(two)

    assert text == TEXT
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 10, 13)
    assert records(two, request_id) == [(200, 3, 10, len(pair.asked) - 1)]
    assert len({number for number, _ in pair.asked}) == len(pair.asked) == (2 if place < 2000 else 1)


def test_several_cuts_are_one_answer(pair: Pair, two: RunningGateway) -> None:
    pair.begin(at(700), at(500), at(450))

    text, usage, request_id = read(two)

    assert (text, usage.completion_tokens) == (TEXT, 10)
    assert records(two, request_id) == [(200, 3, 10, 3)]


def test_an_error_event_of_the_engine_is_a_cut_too(pair: Pair, two: RunningGateway) -> None:
    pair.begin(lambda data: [data[: data.index(b"\n\n", 700) + 2] + b'data: {"error": {"message": "boom"}}\n\n' + DONE])

    assert read(two)[0] == TEXT


def test_a_silent_engine_is_left(pair: Pair, two: RunningGateway) -> None:
    pair.begin(silent_at(900))
    began = time.monotonic()

    assert read(two)[0] == TEXT

    assert time.monotonic() - began < 5
    assert pair.asked[0][1].client_left.wait(5)


def test_a_stop_string_across_the_cut_is_found(pair: Pair, two: RunningGateway) -> None:
    whole = b"".join(pair.tokens.stream("/v1/chat/completions", {"return_token_ids": True, "stop": ["slowly \u8054"]}))
    for place in range(300, len(whole), 150):
        pair.begin(at(place))

        text, _, _ = read(two, stop=["slowly \u8054"])

        assert text == "The river rose ", place


def test_what_cannot_be_continued_ends_in_an_error_event(pair: Pair, two: RunningGateway) -> None:
    pair.begin(at(900))

    with pytest.raises(openai.APIError) as caught:
        read(two, presence_penalty=0.5)

    assert caught.value.code == "stream_interrupted"
    assert len(pair.asked) == 1


def test_a_lost_stream_is_billed_for_what_came(pair: Pair, two: RunningGateway) -> None:
    events = pair.tokens.stream("/v1/chat/completions", {"return_token_ids": True})
    pair.begin(at(len(b"".join(events[:4]))))
    body = {"model": "scripted", "messages": HELLO, "stream": True, "presence_penalty": 1}

    answer = httpx.post(
        f"{two.url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {two.key}"}, timeout=20
    )

    assert b"stream_interrupted" in answer.content
    assert records(two, answer.headers["x-request-id"]) == [(502, 3, 3, 0)]


def test_an_engine_that_drains_hands_its_streams_over(pair: Pair, two: RunningGateway) -> None:
    drained: list[str] = []

    def slow(data: bytes) -> Iterator[bytes]:
        """An event each tenth of a second; after the second, this engine is to drain."""
        for place, event in enumerate(data.split(b"\n\n")[:-1]):
            if place == 2:
                name = pair.engines[pair.asked[0][0]].url.removeprefix("http://")
                headers = {"authorization": f"Bearer {two.key}"}
                answer = httpx.post(f"{two.url}/admin/engines/{name}/drain", headers=headers)
                assert answer.status_code < 300, answer.text
                drained.append(name)
            time.sleep(0.1)
            yield event + b"\n\n"

    pair.begin(slow)
    try:
        text, usage, request_id = read(two)
    finally:
        for name in drained:
            httpx.post(f"{two.url}/admin/engines/{name}/undrain", headers={"authorization": f"Bearer {two.key}"})

    assert (text, usage.completion_tokens) == (TEXT, 10)
    assert records(two, request_id) == [(200, 3, 10, 1)]
    assert len(pair.asked) == 2
    assert 'continuations_total{cause="drained"} 1' in httpx.get(f"{two.url}/metrics").text


def test_choices_are_continued_one_after_the_other(two: RunningGateway, pair: Pair) -> None:
    def named(event: bytes, index: int) -> bytes:
        return event.replace(b'"index":0', b'"index":%d' % index)

    events = [
        event for event in pair.tokens.stream("/v1/chat/completions", {"return_token_ids": True}) if event != DONE
    ]
    both = [named(event, index) for event in events for index in (0, 1)]
    pair.begin(lambda _: [b"".join(both[:11]), CLOSE])

    stream = two.client().chat.completions.create(
        model="scripted", messages=HELLO, stream=True, n=2, max_tokens=100, stream_options={"include_usage": True}
    )
    texts, usage = ["", ""], None
    for event in stream:
        usage = event.usage or usage
        for choice in event.choices:
            texts[choice.index] += choice.delta.content or ""

    assert texts == [TEXT, TEXT]
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 20)


def test_counters_come_back_to_zero(pair: Pair, two: RunningGateway) -> None:
    pair.begin(at(400))

    assert read(two)[0] == TEXT

    assert len(pair.asked) == 2, "it was cut, and continued"
    wait_until(lambda: "signet_gateway_in_flight 0.0" in httpx.get(f"{two.url}/metrics").text, 5, "no request is open")
