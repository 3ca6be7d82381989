"""Feedback in the database, and what it is exported as."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from serving.database import open_engine
from serving.ledger import Ledger
from serving.ledger.cli import ledger
from serving.ledger.feedback import (
    Feedback,
    FeedbackFilter,
    feedback,
    give_feedback,
    list_feedback,
    rated_request,
    rating_sums,
)
from serving.ledger.feedback_export import shaped
from serving.settings import load_settings
from tests.support.ledgers import a_record, rows

EVERY = FeedbackFilter()
MESSAGES = '[{"role": "user", "content": "Hello"}]'


def a_feedback(request_id: str = "req_1", **changes: object) -> Feedback:
    made = Feedback(0, request_id, "acme", "key_1", "m", "sha256:a", 0.0, 0.0, rating=1.0)
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    open_ledger = Ledger(url)
    open_ledger.start()

    async def commit() -> None:
        await open_ledger.commit(a_record(request_id="req_1", tenant="acme", receipt="signed"))

    asyncio.run(commit())
    open_ledger.stop()
    engine = open_engine(url)
    yield engine
    engine.dispose()


def test_a_request_is_its_own_tenants(engine: Engine) -> None:
    assert rated_request(engine, "req_1", "acme") == ("req_1", "m", "signed")
    assert rated_request(engine, "req_1", "beta") is None
    assert rated_request(engine, "req_2", "acme") is None


def test_what_is_said_again_replaces_what_was_said(engine: Engine) -> None:
    first = give_feedback(engine, a_feedback(reason="good"))
    again = give_feedback(engine, a_feedback(rating=-1.0))

    assert (again.id, again.created_at) == (first.id, first.created_at)
    assert again.updated_at >= first.updated_at
    assert list_feedback(engine, EVERY) == [again]
    assert (again.rating, again.reason) == (-1.0, None)


def test_many_that_rate_one_request_at_once_leave_one_row(engine: Engine, url: str) -> None:
    threads = [
        threading.Thread(target=give_feedback, args=(engine, a_feedback(rating=number / 10))) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(rows(url, feedback)) == 1


def test_rows_are_paged_filtered_and_summed(engine: Engine) -> None:
    for number in range(5):
        give_feedback(engine, a_feedback(f"req_{number}", rating=[1, -1, None, 1, 0][number]))
    give_feedback(engine, a_feedback("req_9", tenant="beta", model="n", rating=0.5))

    oldest = list_feedback(engine, EVERY, limit=2)
    assert [row.request_id for row in oldest] == ["req_0", "req_1"]
    assert [row.request_id for row in list_feedback(engine, EVERY, after=oldest[-1].id, limit=2)] == ["req_2", "req_3"]
    assert [row.request_id for row in list_feedback(engine, EVERY, limit=1, newest_first=True)] == ["req_9"]
    assert [row.request_id for row in list_feedback(engine, FeedbackFilter(tenant="beta"))] == ["req_9"]
    assert list_feedback(engine, FeedbackFilter(until=1.0)) == list_feedback(engine, FeedbackFilter(since=1e11)) == []
    assert rating_sums(engine, EVERY) == [("m", "sha256:a", 4, 0.25), ("n", "sha256:a", 1, 0.5)]


def test_only_what_has_the_texts_becomes_data() -> None:
    good = a_feedback(messages=MESSAGES, answer="Hi")
    bad = a_feedback(messages=MESSAGES, answer="Hi", rating=-1.0)
    corrected = msgspec.structs.replace(bad, correction="Hello!")

    assert [shaped(row, "dpo") is not None for row in (a_feedback(), good, bad, corrected)] == [False] * 3 + [True]
    assert [shaped(row, "sft") is not None for row in (a_feedback(), good, bad, corrected)] == [
        False,
        True,
        False,
        True,
    ]
    assert shaped(msgspec.structs.replace(bad, correction="Hi"), "dpo") is None


def test_the_command_writes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNET_HOME", str(tmp_path))
    open_ledger = Ledger(f"sqlite:///{tmp_path / 'signet.db'}")
    open_ledger.start()
    open_ledger.stop()
    engine = open_engine(f"sqlite:///{tmp_path / 'signet.db'}")
    give_feedback(engine, a_feedback(messages=MESSAGES, answer="Hi"))
    engine.dispose()

    done = CliRunner().invoke(ledger, ["feedback", str(tmp_path / "sft.jsonl"), "--as", "sft"], obj=load_settings)

    assert done.exit_code == 0, done.output
    assert done.stderr == f"1 lines in {tmp_path / 'sft.jsonl'}\n"
    assert '"content": "Hi"' in (tmp_path / "sft.jsonl").read_text()
