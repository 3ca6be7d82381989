"""Engines that are killed, stopped and slow, as processes: seen by the probes, left by their streams, used again."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from loadtests.tools.answers import answer_text
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.load import QUESTION, EngineProcess, load, metric, more, outcome_of
from tests.support.running import answers_ok, wait_until

QUICK = {
    "SIGNET_GATEWAY__PROBE_TIMEOUT_S": "0.5",
    "SIGNET_GATEWAY__FIRST_BYTE_TIMEOUT_S": "2",
    "SIGNET_GATEWAY__IDLE_TIMEOUT_S": "2",
    "SIGNET_GATEWAY__FAILOVER__STALL_TIMEOUT_S": "0.6",
    "SIGNET_GATEWAY__FAILOVER__ENGINE_WAIT_S": "0.3",
    "SIGNET_GATEWAY__FAILOVER__RETRY_TIMEOUTS": "true",
    "SIGNET_GATEWAY__CIRCUIT__BACKOFF_S": "0.2",
}
LONG = {**QUESTION, "stream": True, "max_tokens": 100}


@pytest.fixture(scope="module")
def engines() -> Iterator[list[EngineProcess]]:
    with EngineProcess.run(step_ms=20) as one, EngineProcess.run(step_ms=20) as other:
        yield [one, other]


@pytest.fixture(scope="module")
def gateway(engines: list[EngineProcess], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    running = start_gateway(tmp_path_factory.mktemp("stopped"), *(engine.url for engine in engines), **QUICK)
    yield running
    stop_gateway(running)


def up(gateway: RunningGateway) -> list[bool]:
    """Of each engine, in the order of their names."""
    lines = httpx.get(f"{gateway.url}/metrics", timeout=10).text.splitlines()
    return [line.endswith(" 1.0") for line in sorted(lines) if line.startswith("signet_gateway_engine_up{")]


@pytest.fixture(autouse=True)
def all_up(gateway: RunningGateway) -> None:
    wait_until(lambda: up(gateway) == [True, True], 20, "both engines are up", gateway.process)


class Stream(threading.Thread):
    """One streamed answer, read in the background."""

    def __init__(self, gateway: RunningGateway) -> None:
        super().__init__()
        self.gateway = gateway
        self.told = b""
        self.start()

    def run(self) -> None:
        headers = {"authorization": f"Bearer {self.gateway.key}"}
        url = f"{self.gateway.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=LONG, headers=headers, timeout=20) as response:
            for data in response.iter_bytes():
                self.told += data

    def is_under_way(self) -> bool:
        return self.told.count(b"data: ") > 10


def busy(engines: list[EngineProcess]) -> EngineProcess:
    """The engine that generates."""

    def running(engine: EngineProcess) -> bool:
        return 'vllm:num_requests_running{model_name="standin"} 1' in httpx.get(f"{engine.url}/metrics").text

    return next(engine for engine in engines if running(engine))


@pytest.mark.parametrize("fault", ["stopped", "killed"])
def test_a_stream_leaves_an_engine_that_hangs_or_dies(
    fault: str, gateway: RunningGateway, engines: list[EngineProcess]
) -> None:
    stream = Stream(gateway)
    wait_until(stream.is_under_way, 10, "text has come")
    engine = busy(engines)
    engine.hang() if fault == "stopped" else engine.kill()
    try:
        wait_until(lambda: up(gateway).count(False) == 1, 5, "the probe sees it")
        stream.join(20)
    finally:
        engine.go_on() if fault == "stopped" else engine.start_again()

    assert outcome_of(200, "text/event-stream", stream.told, answer_text(100)) == "complete"
    wait_until(lambda: up(gateway) == [True, True], 10, "it is back")


def test_a_question_to_an_engine_that_hangs_is_answered_by_another(
    gateway: RunningGateway, engines: list[EngineProcess]
) -> None:
    """Stopped between two probes, so that some of the questions are sent to it."""
    engines[0].hang()
    try:
        with load(gateway.url, gateway.key) as seen:
            more(seen, 40)
    finally:
        engines[0].go_on()
    assert not seen.failed


def test_without_another_engine_a_stream_ends_in_an_error_event(
    gateway: RunningGateway, engines: list[EngineProcess]
) -> None:
    stream = Stream(gateway)
    wait_until(stream.is_under_way, 10, "text has come")
    for engine in engines:
        engine.hang()
    try:
        stream.join(10)
        assert not stream.is_alive()
        refused = httpx.post(
            f"{gateway.url}/v1/chat/completions",
            json=QUESTION,
            headers={"authorization": f"Bearer {gateway.key}"},
            timeout=20,
        )
        not_ready = httpx.get(f"{gateway.url}/readyz/engines").status_code
    finally:
        for engine in engines:
            engine.go_on()

    text = b"".join(part for part in stream.told.split(b"\n\n") if b'"error"' not in part)
    assert outcome_of(200, "text/event-stream", stream.told, None) == "ended stream_interrupted"
    assert text.count(b'"content"') > 5
    assert (refused.status_code, refused.json()["error"]["code"], not_ready) == (503, "engine_unavailable", 503)
    assert refused.headers["retry-after"]
    wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 10, "engines are back")


def test_an_engine_that_is_only_slow_is_waited_for(gateway: RunningGateway, engines: list[EngineProcess]) -> None:
    """A token each 0.4 s is under every timeout: nobody is asked again, nothing is lost, the order holds."""
    for engine in engines:
        assert httpx.post(f"{engine.url}/standin/pace?step_ms=400").is_success
    try:
        started = time.monotonic()
        headers = {"authorization": f"Bearer {gateway.key}"}
        body: dict[str, Any] = {**LONG, "max_tokens": 6}
        answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=20)
        took = time.monotonic() - started
    finally:
        for engine in engines:
            httpx.post(f"{engine.url}/standin/pace?step_ms=20")

    told = [event.removeprefix("data: ") for event in answer.text.split("\n\n") if event.startswith("data: ")]
    events = [json.loads(data) for data in told if data != "[DONE]"]
    text = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
    assert text == answer_text(6)
    assert took > 1.5


@pytest.mark.faults
def test_engines_hang_die_and_crawl_again_and_again(gateway: RunningGateway, engines: list[EngineProcess]) -> None:
    """One of two at a time, for a minute, under load: no request fails, and each text is right."""
    chance = random.Random(4)
    with load(gateway.url, gateway.key, num_clients=24) as seen:
        for number in range(24):
            engine, fault = engines[number % 2], chance.choice(["hang", "die", "crawl"])
            more(seen, 20)
            if fault == "crawl":
                httpx.post(f"{engine.url}/standin/pace?step_ms=150")
            else:
                engine.hang() if fault == "hang" else engine.kill()
            time.sleep(chance.uniform(0, 1.5))
            if fault == "crawl":
                httpx.post(f"{engine.url}/standin/pace?step_ms=20")
            else:
                engine.go_on() if fault == "hang" else engine.start_again()
            wait_until(lambda: up(gateway) == [True, True], 20, "both are up")
    assert not seen.failed
    assert metric(gateway.url, "signet_gateway_in_flight") == 0
