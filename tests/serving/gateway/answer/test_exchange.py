"""Answers, and all else that engines send, are read up to a limit."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from serving.gateway.streams.relay import StreamRelay
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.in_process import running_in_process
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import HANG, ScriptedEngine, answer, head, stream, whole

LIMIT = 1024 * 1024
ASK = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
TOO_LONG = json.dumps(answer("x " * LIMIT)).encode()


@pytest.fixture(scope="module")
def bounded(engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    home = tmp_path_factory.mktemp("bounded")
    running = start_gateway(home, engine.url, SIGNET_GATEWAY__MAX_ANSWER_BYTES=str(LIMIT))
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "the engine is up", running.process)
    yield running
    stop_gateway(running)


def ask(gateway: RunningGateway, timeout: float = 20) -> httpx.Response:
    headers = {"authorization": f"Bearer {gateway.key}"}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=ASK, headers=headers, timeout=timeout)


@pytest.mark.parametrize(
    "script",
    [[head(length=len(TOO_LONG)) + TOO_LONG], [head(), TOO_LONG], [head(), *[b" " * 65536] * 1000]],
    ids=["announced", "until it ends", "endless"],
)
def test_an_answer_that_is_too_large_is_told_and_blames_nobody(
    script: list[object], bounded: RunningGateway, engine: ScriptedEngine
) -> None:
    engine.script = lambda _: script
    for _ in range(6):  # one more than opens a circuit
        refused = ask(bounded)
        assert (refused.status_code, refused.json()["error"]["code"]) == (502, "answer_too_large")

    engine.script = lambda _: whole(answer("y" * (LIMIT // 2)))
    assert ask(bounded).status_code == 200
    assert 'circuit="open"} 1' not in httpx.get(f"{bounded.url}/metrics").text


def test_answers_are_bounded_together(engine: ScriptedEngine, tmp_path: Path) -> None:
    """Of 1 MiB a tenant's share is half: one answer of 400 KB, and not a second beside it."""
    text = json.dumps(answer("y" * 400_000)).encode()
    gateway = start_gateway(tmp_path, engine.url, SIGNET_GATEWAY__HTTP__MAX_BUFFERED_BYTES=str(LIMIT))
    try:
        wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 10, "the engine is up", gateway.process)
        with ThreadPoolExecutor(2) as threads:
            engine.script = lambda _: [head(length=len(text)), HANG]
            seen = len(engine.seen)
            held = threads.submit(ask, gateway, timeout=5)
            wait_until(lambda: len(engine.seen) > seen, 10, "the engine has begun an answer")
            engine.script = lambda _: [head(), text]
            refused = ask(gateway)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "buffers_full")

            engine.script = lambda _: [head(length=len(text)) + text]
            waiting = threads.submit(ask, gateway)  # how long it is is known: it can wait, and does
            with pytest.raises(httpx.ReadTimeout):
                held.result()
            assert waiting.result().status_code == 200
        assert ask(gateway).status_code == 200
    finally:
        stop_gateway(gateway)


def test_endless_metrics_cost_neither_memory_nor_the_engine(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    engine.fixed_paths["/metrics"] += b"# " + b"x" * (5 * LIMIT)
    gateway = start_gateway(tmp_path, engine.url)
    try:
        wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 10, "the engine is up", gateway.process)
        answered = ask(gateway)
        assert answered.status_code == 200
        # Nothing in them was read, so the engine is not known to have the plugin.
        assert answered.headers["x-signet-mark"] == "off;reason=engine"
    finally:
        stop_gateway(gateway)
        engine.stop()


async def test_a_long_event_does_not_hold_the_event_loop(
    engine: ScriptedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = StreamRelay.feed
    on_loop: dict[int, bool] = {}

    def noted(relay: StreamRelay, data: bytes) -> bytes:
        released = feed(relay, data)
        on_loop[len(released)] = threading.current_thread() is threading.main_thread()
        return released

    monkeypatch.setattr(StreamRelay, "feed", noted)
    long = "word " * 60_000
    engine.script = lambda _: stream([long])
    async with running_in_process(engine.url, tmp_path) as gateway:
        released = await gateway.ask(stream=True)

    assert long[:-10].encode() in released
    assert on_loop[max(on_loop)] is False
