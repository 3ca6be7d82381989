"""Faults of our own: whatever fails in the middle, the client hears of it in the form of every other error."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from serving.gateway.answer import whole as whole_answer
from serving.gateway.cleaning import cleaner
from serving.gateway.streams.relay import StreamRelay
from tests.support.in_process import running_in_process
from tests.support.load import outcome_of
from tests.support.scripted import ScriptedEngine, answer, stream, whole

SECRET = "the prompt that nobody may read"


def fail(*_: Any) -> Any:
    raise RuntimeError(SECRET)


@pytest.mark.parametrize("place", ["before", "whole", "stream"])
async def test_a_fault_of_ours_is_one_error_and_is_recorded(
    place: str,
    engine: ScriptedEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine.script = lambda _: stream(["a", "b"]) if place == "stream" else whole(answer("a"))
    async with running_in_process(engine.url, tmp_path) as gateway:
        with monkeypatch.context() as broken, caplog.at_level(logging.ERROR):
            match place:
                case "before":
                    broken.setattr(cleaner, "sanitize", fail)
                case "whole":
                    broken.setattr(whole_answer, "clean_answer", fail)
                case "stream":
                    broken.setattr(StreamRelay, "feed", fail)
            told = await gateway.ask(stream=place == "stream")
        content_type = "text/event-stream" if place == "stream" else "application/json"
        again = await gateway.ask(stream=place == "stream")

    # A stream has not begun before its first text.
    assert outcome_of(500, "application/json", told, None) == "refused internal_error"
    assert SECRET.encode() not in told
    assert outcome_of(200, content_type, again, None) == "complete"
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == ["unexpected failure"]
    with closing(sqlite3.connect(tmp_path / "signet.db")) as database:
        statuses = [status for (status,) in database.execute("select status from requests order by id")]
    assert statuses == [200] if place == "before" else [500, 200]
