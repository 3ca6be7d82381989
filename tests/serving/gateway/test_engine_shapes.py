"""Answers of many engines' shapes through the whole gateway: complete, cleaned, counted, and asked for once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.serving.gateway.streams.engine_shapes import CALLS, STREAMS, WHOLE
from tests.serving.gateway.streams.leaks import decoded_events, leaked
from tests.support.in_process import InProcess, running_in_process
from tests.support.load import outcome_of
from tests.support.scripted import EVENTS, ScriptedEngine, head

EMAIL = "jane.doe@example.org"
TEXT = f"Hi 🎉 there: {EMAIL} or anna, thanks."


@pytest.fixture
async def gateway(engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[InProcess]:
    async with running_in_process(engine.url, tmp_path) as running:
        yield running


def pieces(data: bytes, size: int) -> list[object]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def counted(home: Path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(home / "signet.db")) as database:
        return list(database.execute("select status, completion_tokens from requests"))


@pytest.mark.parametrize("shape", [*STREAMS, *(f"calls: {name}" for name in CALLS)])
async def test_a_stream_is_complete_and_costs_no_second_question(
    shape: str, gateway: InProcess, engine: ScriptedEngine, tmp_path: Path
) -> None:
    calls = CALLS.get(shape.removeprefix("calls: "))
    words = [TEXT[start : start + 5] for start in range(0, len(TEXT), 5)]
    data = STREAMS[shape](words) if calls is None else calls({"to": EMAIL}, {"n": 1})
    engine.script = lambda _: [EVENTS, *pieces(data, 37)]

    asked = len(engine.seen)

    told = await gateway.ask(stream=True)

    assert outcome_of(200, "text/event-stream", told, None) == "complete"
    assert not leaked(decoded_events(told), [EMAIL])
    assert b"EMAIL_ADDRESS" in told
    assert len(engine.seen) == asked + 1
    [(status, tokens)] = counted(tmp_path)
    assert status == 200
    assert tokens > 0


@pytest.mark.parametrize("shape", WHOLE)
async def test_a_whole_answer_is_complete_and_costs_no_second_question(
    shape: str, gateway: InProcess, engine: ScriptedEngine, tmp_path: Path
) -> None:
    data = WHOLE[shape](TEXT).encode()
    engine.script = lambda _: [head(length=len(data)) + data]

    asked = len(engine.seen)

    told = json.loads(await gateway.ask())

    assert told["choices"][0]["message"]["content"].startswith("Hi 🎉 there: [EMAIL_ADDRESS] or anna, thanks.")
    assert len(engine.seen) == asked + 1
    [(status, tokens)] = counted(tmp_path)
    assert status == 200
    assert tokens > 0
