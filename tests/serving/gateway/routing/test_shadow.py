"""Aliases, shadows and sticky prompts through a real gateway."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import HANG, ScriptedEngine, SeenRequest, answer, stream, whole

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def serving(*models: str) -> ScriptedEngine:
    engine = ScriptedEngine()
    cards = [{"id": model, "object": "model"} for model in models]
    engine.fixed_paths["/v1/models"] = json.dumps({"object": "list", "data": cards}).encode()
    return engine


@pytest.fixture
def engines() -> Iterator[tuple[ScriptedEngine, ScriptedEngine]]:
    both = serving("one"), serving("two")
    yield both
    for engine in both:
        engine.stop()


@pytest.fixture
def gateway(engines: tuple[ScriptedEngine, ScriptedEngine], tmp_path: Path) -> Iterator[RunningGateway]:
    models = {"chat": {"target": "one", "shadow": {"target": "two", "share": 1.0, "max_concurrent": 2}}}
    urls = [engine.url for engine in engines]
    running = start_gateway(tmp_path, *urls, SIGNET_GATEWAY__MODELS=json.dumps(models))
    wait_until(lambda: len(running.client().models.list().data) == 3, 10, "both engines are known", running.process)
    yield running
    stop_gateway(running)


def counted(gateway: RunningGateway, name: str, **labels: str) -> float:
    wanted = name + "{" + ",".join(f'{key}="{value}"' for key, value in sorted(labels.items())) + "}"
    lines = httpx.get(f"{gateway.url}/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted)), 0.0)


def outcome(gateway: RunningGateway, what: str) -> float:
    return counted(gateway, "signet_gateway_shadow_answers_total", model="chat", outcome=what, shadow="two")


@pytest.mark.parametrize("streamed", [True, False])
def test_a_copy_is_asked_for_compared_and_never_billed(
    gateway: RunningGateway, engines: tuple[ScriptedEngine, ScriptedEngine], streamed: bool
) -> None:
    one, two = engines
    one.script = lambda _: stream(["Hello", " there"]) if streamed else whole(answer("Hello there"))
    two.script = lambda _: whole(answer("Hello there"))
    create = gateway.client().chat.completions.create
    answered = create(model="chat", messages=HELLO, stream=streamed, seed=7)
    if streamed:
        assert len(list(answered)) > 2
    wait_until(lambda: outcome(gateway, "same") == 1, 5, "the answers are compared")

    asked = two.seen[-1].body
    assert (asked["model"], asked["seed"], asked["messages"]) == ("two", 7, HELLO)
    assert asked["cache_salt"] == one.seen[-1].body["cache_salt"]
    assert not {"stream", "stream_options", "vllm_xargs"} & asked.keys()
    assert one.seen[-1].body["model"] == "one"
    two.script = lambda _: whole(answer("Something else altogether, and longer"))
    list(create(model="chat", messages=HELLO, stream=True))
    wait_until(lambda: outcome(gateway, "different") == 1, 5, "they differ")
    with closing(sqlite3.connect(gateway.home / "signet.db")) as database:
        rows = database.execute("select model, asked_model from requests").fetchall()
    assert rows == [("one", "chat")] * 2


def test_a_shadow_that_hangs_or_fails_delays_nobody(
    gateway: RunningGateway, engines: tuple[ScriptedEngine, ScriptedEngine]
) -> None:
    def hang(_: SeenRequest) -> list[object]:
        return [HANG]

    engines[1].script = hang
    create = gateway.client().chat.completions.create
    for _ in range(5):
        assert create(model="chat", messages=HELLO).choices[0].message.content == "hello"
    assert outcome(gateway, "skipped") == 3
    engines[1].script = lambda _: whole({"error": {"message": "no"}}, status=500)
    assert stop_gateway(gateway) == 0


def test_aliases_are_listed_and_plain_names_go_on(gateway: RunningGateway) -> None:
    listed = {model.id: model.to_dict().get("parent") for model in gateway.client().models.list()}
    assert listed == {"one": None, "two": None, "chat": "one"}
    assert gateway.client().chat.completions.create(model="two", messages=HELLO).choices[0].message.content == "hello"


def test_a_long_prompt_goes_where_it_was_and_a_session_stays(tmp_path: Path) -> None:
    both = serving("m"), serving("m")
    gateway = start_gateway(tmp_path, *(engine.url for engine in both))
    try:
        up = f'signet_gateway_engine_up{{engine="{both[1].url.removeprefix("http://")}"}} 1.0'
        wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 10, "an engine is up", gateway.process)
        wait_until(lambda: up in httpx.get(f"{gateway.url}/metrics").text, 10, "both are up")
        create = gateway.client().chat.completions.create
        used = set()
        for number in range(4):
            messages: list[Any] = [{"role": "system", "content": f"Rule {number}. " * 300}]
            before = [len(engine.seen) for engine in both]
            for turn in range(4):
                messages += [{"role": "user", "content": f"Question {turn}"}]
                create(model="m", messages=messages)
                messages += [{"role": "assistant", "content": "hello"}]
            gained = sorted(len(engine.seen) - was for engine, was in zip(both, before, strict=True))
            assert gained == [0, 4]
            used.add(len(both[0].seen) > before[0])
        for number in range(8):
            before = [len(engine.seen) for engine in both]
            for _ in range(3):
                create(model="m", messages=HELLO, user=f"user-{number}")
            assert 0 in [len(engine.seen) - was for engine, was in zip(both, before, strict=True)]
    finally:
        stop_gateway(gateway)
        for engine in both:
            engine.stop()
