"""Streamed answers, from a scripted engine through a gateway in this process."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from serving.gateway.answer.outgoing import Outgoing
from serving.gateway.errors import LedgerDown
from tests.support.in_process import InProcess, running_in_process
from tests.support.running import wait_until
from tests.support.scripted import CLOSE, DONE, EVENTS, HANG, ScriptedEngine, answer, chunk, stream, whole

Row = tuple[int, int, int, str]


@pytest.fixture
async def gateway(engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[InProcess]:
    async with running_in_process(engine.url, tmp_path) as running:
        yield running


def texts(body: bytes) -> str:
    events = [json.loads(event[6:]) for event in body.split(b"\n\n") if event.startswith(b"data: {")]
    return "".join(c["delta"].get("content") or "" for event in events for c in event.get("choices", ()))


async def recorded(home: Path) -> Row:
    """(status, prompt tokens, completion tokens, finish reason) of the one answer, once it is in the ledger."""
    return await asyncio.to_thread(_recorded, home)


def _recorded(home: Path) -> Row:
    rows: list[Row] = []

    def look() -> bool:
        with closing(sqlite3.connect(home / "signet.db")) as database:
            asked = "select status, prompt_tokens, completion_tokens, finish_reason from requests"
            rows[:] = database.execute(asked).fetchall()
        return bool(rows)

    wait_until(look, 10, "the answer is on record")
    [row] = rows
    return row


async def test_events_with_nothing_to_clean_leave_as_the_bytes_that_came(
    engine: ScriptedEngine, gateway: InProcess, tmp_path: Path
) -> None:
    events: list[Any] = stream(["One ", "two."])
    engine.script = lambda _: events

    body = await gateway.ask(stream=True, stream_options={"include_usage": True})

    assert body == b"".join(events[1:])
    assert await recorded(tmp_path) == (200, 5, 7, "stop")


async def test_usage_that_only_the_ledger_wants_stays_here(
    engine: ScriptedEngine, gateway: InProcess, tmp_path: Path
) -> None:
    engine.script = lambda _: stream(["One ", "two."])

    body = await gateway.ask(stream=True)

    assert engine.seen[-1].body["stream_options"] == {"include_usage": True}
    assert b'"usage"' not in body
    assert body.endswith(DONE)
    assert (await recorded(tmp_path))[1:3] == (5, 7)


async def test_a_value_is_found_however_it_is_cut(engine: ScriptedEngine, gateway: InProcess) -> None:
    engine.script = lambda _: stream(["Write to an", "na@exa", "mple.org", " today."])

    body = await gateway.ask(stream=True)

    assert texts(body).startswith("Write to [")
    assert texts(body).endswith("] today.")


async def test_an_end_that_is_not_on_record_is_not_told(
    engine: ScriptedEngine, gateway: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def commit(self: Outgoing) -> None:
        raise LedgerDown("The answer could not be recorded.")

    monkeypatch.setattr(Outgoing, "commit", commit)
    engine.script = lambda _: stream(["One ", "two."])

    body = await gateway.ask(stream=True)

    assert texts(body) == "One "  # the last word may be the beginning of a longer one
    assert b'"stop"' not in body
    assert DONE not in body
    assert b"could not be recorded" in body


async def test_a_stream_that_breaks_off_ends_in_an_error_and_is_paid_for_by_its_length(
    engine: ScriptedEngine, gateway: InProcess, tmp_path: Path
) -> None:
    engine.script = lambda _: [EVENTS, chunk({"content": "word " * 80}), CLOSE]

    body = await gateway.ask(stream=True)

    assert b'"code":"stream_interrupted"' in body
    assert DONE not in body
    status, _, completion, _ = await recorded(tmp_path)
    assert status == 502
    assert 90 <= completion <= 100


async def test_one_that_breaks_off_before_its_first_text_has_a_status_of_its_own(
    engine: ScriptedEngine, gateway: InProcess
) -> None:
    engine.script = lambda _: [EVENTS, chunk({"role": "assistant", "content": ""}), CLOSE]

    error = json.loads(await gateway.ask(stream=True))["error"]

    assert error["type"] == "server_error"


async def test_an_engines_error_event_is_no_text(engine: ScriptedEngine, gateway: InProcess) -> None:
    engine.script = lambda _: [
        EVENTS,
        chunk({"content": "One "}),
        b'data: {"error": {"message": "out of memory at /srv/secret"}}\n\n',
        DONE,
    ]

    body = await gateway.ask(stream=True)

    assert texts(body) == "One "
    assert b"secret" not in body
    assert b'"error"' in body


async def test_an_answer_in_one_piece_where_a_stream_was_asked_for_is_relayed(
    engine: ScriptedEngine, gateway: InProcess
) -> None:
    engine.script = lambda _: whole(answer("hello"))

    assert json.loads(await gateway.ask(stream=True))["choices"][0]["message"]["content"] == "hello"


async def test_the_engine_stops_when_the_client_leaves(
    engine: ScriptedEngine, gateway: InProcess, tmp_path: Path
) -> None:
    engine.script = lambda _: [EVENTS, chunk({"content": "One "}), HANG]

    await gateway.leave()

    assert await asyncio.to_thread(engine.seen[-1].client_left.wait, 10)
    assert (await recorded(tmp_path))[0] == 499
