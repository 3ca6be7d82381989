"""Gateways and engines that die, and what must hold all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, free_port, run_signet, wait_until
from tests.support.scripted import HANG, ScriptedEngine, answer, stream, whole

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def second_engine() -> Iterator[ScriptedEngine]:
    scripted = ScriptedEngine(has_plugin=False)
    scripted.script = lambda _: whole(answer("from the second"))
    yield scripted
    scripted.stop()


def ready(gateway: RunningGateway) -> None:
    wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 10, "an engine is up", gateway.process)


@pytest.mark.parametrize("streamed", [True, False])
def test_what_a_client_saw_complete_is_on_disk_when_the_gateway_is_killed(
    streamed: bool, engine: ScriptedEngine, tmp_path: Path
) -> None:
    gateway = start_gateway(tmp_path, engine.url)
    engine.script = lambda _: stream(["Hello", " there"]) if streamed else whole(answer("hello"))
    ready(gateway)
    request = {"model": "scripted", "messages": HELLO, "stream": streamed}
    headers = {"authorization": f"Bearer {gateway.key}"}

    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=request, headers=headers) as response:
        seen = ""
        for text in response.iter_text():
            seen += text
            if '"finish_reason": "stop"' in seen:
                gateway.process.kill()
                break
    gateway.process.wait(5)

    assert "stop" in seen
    with closing(sqlite3.connect(tmp_path / "signet.db")) as database:
        found = database.execute("select request_id, status, completion_tokens from requests").fetchall()
    assert found == [(response.headers["x-request-id"], 200, 7)]


def test_a_dead_engine_is_passed_over(second_engine: ScriptedEngine, tmp_path: Path) -> None:
    first = ScriptedEngine()
    gateway = start_gateway(tmp_path, first.url, second_engine.url)
    try:
        ready(gateway)
        first.stop()
        client = gateway.client()
        answers = [
            client.chat.completions.create(model="scripted", messages=HELLO).choices[0].message.content
            for _ in range(5)
        ]
        assert answers == ["from the second"] * 5
    finally:
        stop_gateway(gateway)


def test_an_engine_without_the_plugin_leaves_answers_unmarked_and_says_so(
    second_engine: ScriptedEngine, tmp_path: Path
) -> None:
    gateway = start_gateway(tmp_path, second_engine.url)
    try:
        ready(gateway)
        key = gateway.new_key("--mark", "on")
        create = gateway.client(key).chat.completions.with_raw_response.create

        raw = create(model="scripted", messages=HELLO)
        assert raw.headers["x-signet-mark"] == "off;reason=engine"
        assert "vllm_xargs" not in second_engine.seen[-1].body
        with pytest.raises(openai.BadRequestError, match="makes no gumbel marks"):
            create(model="scripted", messages=HELLO, extra_headers={"X-Signet-Mark": "on"})
    finally:
        stop_gateway(gateway)


def test_an_engine_that_answers_nothing_but_chats_is_enough(second_engine: ScriptedEngine, tmp_path: Path) -> None:
    second_engine.fixed_paths = {}
    key = {"SIGNET_GATEWAY__ENGINE_API_KEY": "the-engines-own"}
    gateway = start_gateway(tmp_path, f"{second_engine.url}/v1", **key)
    try:
        ready(gateway)
        answered = gateway.client().chat.completions.create(model="whatever-it-has", messages=HELLO)
        assert answered.choices[0].message.content == "from the second"
        assert second_engine.seen[-1].headers["authorization"] == "Bearer the-engines-own"
    finally:
        stop_gateway(gateway)


def test_without_an_engine_the_gateway_takes_requests_and_says_so(tmp_path: Path) -> None:
    gateway = start_gateway(tmp_path, f"http://127.0.0.1:{free_port()}")
    try:
        assert answers_ok(f"{gateway.url}/healthz")
        assert answers_ok(f"{gateway.url}/readyz")
        assert httpx.get(f"{gateway.url}/readyz/engines").status_code == 503
        with pytest.raises(openai.InternalServerError) as caught:
            gateway.client().chat.completions.create(model="scripted", messages=HELLO)
        assert caught.value.code == "engine_unavailable"
        assert "retry-after" in caught.value.response.headers
    finally:
        stop_gateway(gateway)


def test_stopping_ends_open_streams_with_an_error_event(engine: ScriptedEngine, tmp_path: Path) -> None:
    gateway = start_gateway(tmp_path, engine.url, SIGNET_GATEWAY__DRAIN_TIMEOUT_S="1")
    ready(gateway)
    engine.script = lambda _: [*stream(["Hello", " there"])[:-3], HANG]

    events = gateway.client().chat.completions.create(model="scripted", messages=HELLO, stream=True)
    next(events)
    gateway.process.terminate()
    with pytest.raises(openai.APIError) as caught:
        for _ in events:
            pass

    assert caught.value.code == "stopping"
    assert gateway.process.wait(10) is not None


def test_an_answer_that_cannot_be_recorded_is_not_released(engine: ScriptedEngine, tmp_path: Path) -> None:
    gateway = start_gateway(tmp_path, engine.url, SIGNET_LEDGER__BUSY_TIMEOUT_S="0.2")
    try:
        ready(gateway)
        engine.script = lambda _: whole(answer("not to be seen"))
        with closing(sqlite3.connect(tmp_path / "signet.db", isolation_level=None)) as blocker:
            blocker.execute("begin immediate")
            with pytest.raises(openai.InternalServerError) as caught:
                gateway.client().chat.completions.create(model="scripted", messages=HELLO)
            blocker.execute("rollback")

        assert caught.value.code == "ledger_unavailable"
        assert "not to be seen" not in caught.value.response.text
    finally:
        stop_gateway(gateway)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--port", "{taken}", "--engine-url", "http://127.0.0.1:1"], "address already in use", id="port"),
        pytest.param([], "no engine is given", id="no-engine"),
        pytest.param(["--engine-url", "localhost"], "http://HOST:PORT", id="bad-url"),
        pytest.param(["--engine-url", "http://x", "--model-folder", "a=/nowhere"], "existing folder", id="folder"),
    ],
)
def test_what_is_wrong_at_start_is_said_in_one_line(
    arguments: list[str], words: str, gateway: RunningGateway, tmp_path: Path
) -> None:
    taken = gateway.url.rpartition(":")[2]

    done = run_signet(tmp_path, "gateway", *(part.format(taken=taken) for part in arguments))

    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4
