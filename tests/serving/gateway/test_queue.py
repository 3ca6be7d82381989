"""The fair queue in a real gateway: what its clients see."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import EVENTS, HANG, ScriptedEngine, SeenRequest, answer, chunk, stream, whole


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, ScriptedEngine]]:
    """A gateway that lets one answer at a time run, and two of a tenant wait."""
    engine = ScriptedEngine()
    gateway = start_gateway(
        tmp_path_factory.mktemp("narrow"),
        engine.url,
        SIGNET_GATEWAY__ADMISSION='{"adaptive": false, "concurrency": 1, "max_queued_per_tenant": 2}',
    )
    wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 10, "the gateway sees its engine", gateway.process)
    yield gateway, engine
    stop_gateway(gateway)
    engine.stop()


def metric(gateway: RunningGateway, line: str) -> float:
    text = httpx.get(f"{gateway.url}/metrics").text
    return next((float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(line)), 0.0)


def ask(gateway: RunningGateway, key: str | None = None, **headers: str) -> str:
    made = gateway.client(key).chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "hi"}], extra_headers=headers
    )
    return made.choices[0].message.content or ""


def test_a_place_is_waited_for_refused_and_given_back(narrow: tuple[RunningGateway, ScriptedEngine]) -> None:
    gateway, engine = narrow
    seen: list[str] = []

    def script(request: SeenRequest) -> Iterator[object]:
        seen.append(request.headers.get("x-request-id", ""))
        if len(seen) == 1:
            yield EVENTS
            yield from (chunk({"content": text}) for text in ("The answer", " begins", " like this.", " Then", " it"))
            yield HANG
        else:
            yield from whole(answer("hello"))

    engine.script = script
    first = gateway.client().chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    next(iter(first))
    waiting = 'signet_gateway_queue_waiting{model="scripted"'
    with ThreadPoolExecutor(4) as pool:
        queued = [pool.submit(ask, gateway) for _ in range(2)]
        wait_until(lambda: metric(gateway, waiting) == 2, 5, "two requests wait")

        with pytest.raises(openai.RateLimitError) as full:
            ask(gateway)
        assert full.value.code == "queue_full"
        assert int(full.value.response.headers["retry-after"]) >= 1

        other = gateway.new_key("--tenant", "other")
        with pytest.raises(openai.InternalServerError) as late:
            ask(gateway, other, **{"X-Signet-Deadline-Ms": "50"})
        assert late.value.code == "deadline_exceeded"
        assert late.value.status_code == 504

        with pytest.raises(openai.APITimeoutError):
            gateway.client(other).with_options(timeout=0.2).chat.completions.create(
                model="scripted", messages=[{"role": "user", "content": "hi"}]
            )
        wait_until(lambda: metric(gateway, waiting) == 2, 5, "the client that left waits no more")

        assert len(seen) == 1
        first.close()
        assert [question.result(10) for question in queued] == ["hello", "hello"]
    assert len(seen) == 3
    wait_until(lambda: metric(gateway, 'signet_gateway_queue_running{model="scripted"') == 0, 5, "nothing runs")
    assert metric(gateway, waiting) == 0
    assert metric(gateway, 'signet_gateway_queue_refused_total{reason="queue_full"') == 1
    assert metric(gateway, "signet_gateway_engine_limit{") == 1


def test_streams_are_charged_and_leave_no_turn(narrow: tuple[RunningGateway, ScriptedEngine]) -> None:
    gateway, engine = narrow
    engine.script = lambda _: stream(["a", "b", "c"])
    for _ in range(3):
        chunks = gateway.client().chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "abc"
    wait_until(lambda: metric(gateway, 'signet_gateway_queue_running{model="scripted"') == 0, 5, "nothing runs")
