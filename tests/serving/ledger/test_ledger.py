"""Group commit: what was awaited is on disk, what could not be written is said, and neighbours are spared."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from loadtests.tools.services import Postgres
from serving.database import open_engine
from serving.ledger import Ledger, LedgerSettings, LedgerUnavailable, RecordRefused, UsageRecord
from serving.ledger import commit_queue as commit_queue_module
from serving.ledger.audit import AuditRecord, Entry, audit
from serving.ledger.record import requests
from serving.ledger.verify import verify
from tests.support.ledgers import a_record, rows


def file_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'signet.db'}"


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[Ledger]:
    ledger = Ledger(url, LedgerSettings(busy_timeout_s=0.1))
    ledger.start()
    yield ledger
    ledger.stop()


@pytest.fixture
async def sqlite_ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    ledger = Ledger(file_url(tmp_path), LedgerSettings(busy_timeout_s=0.1))
    ledger.start()
    yield ledger
    ledger.stop()


async def test_every_field_is_kept(ledger: Ledger, url: str) -> None:
    record = a_record(
        status=499,
        streamed=True,
        prompt_tokens=3,
        completion_tokens=4,
        prompt_chars=5,
        answer_chars=6,
        refused=True,
        guard_hits=7,
        mark_scheme="gumbel",
        mark_key_id="k",
        ttft_s=0.25,
        duration_s=1.5,
        finish_reason="stop",
        engine="http://127.0.0.1:8100",
        asked_model="latest",
        cost_nanos=12_345_678_901,
        continued=2,
        priority=1,
        policy="ab" * 32,
    )

    await ledger.commit(record)

    [row] = rows(url)
    assert {name: row[name] for name in UsageRecord.__struct_fields__} == msgspec.structs.asdict(record)


async def test_names_of_any_length_are_kept_whole_and_the_chain_holds(ledger: Ledger, url: str) -> None:
    """PostgreSQL's cast to a shorter text cuts it in silence, and the record is no longer the one that was hashed."""
    names = {"model": "m" * 300, "asked_model": "é" * 5000, "engine": "http://" + "e" * 400}

    await ledger.commit(a_record(**names))

    [row] = rows(url)
    assert {name: row[name] for name in names} == names
    engine = open_engine(url)
    assert verify(engine).findings == []
    engine.dispose()


@pytest.mark.services
async def test_what_a_column_does_not_take_is_refused_and_not_cut(postgres: Postgres) -> None:
    ledger = Ledger(postgres.url)
    ledger.start()
    with pytest.raises(RecordRefused):
        await ledger.commit(a_record(tenant="t" * 65))
    await ledger.commit(a_record())
    ledger.stop()

    assert [row["tenant"] for row in rows(postgres.url)] == ["acme"]


def test_the_record_and_the_table_have_the_same_columns() -> None:
    links = ("chain", "seq", "previous_hash", "hash")
    assert ("id", *UsageRecord.__struct_fields__, *links) == tuple(requests.columns.keys())
    assert ("id", *AuditRecord.__struct_fields__, *links) == tuple(audit.columns.keys())


async def test_many_waiters_share_transactions(ledger: Ledger, url: str) -> None:
    batches: list[int] = []
    ledger.on_commit = lambda _seconds, num_records: batches.append(num_records)

    await asyncio.gather(*(ledger.commit(a_record()) for _ in range(300)))

    assert sum(batches) == len(rows(url)) == 300
    assert len(batches) < 30


async def test_the_loop_is_woken_once_for_a_batch(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []
    resolve = commit_queue_module._resolve

    def counted(waiting: list[commit_queue_module.Waiting], failures: commit_queue_module.Failures) -> None:
        woken.append(len(waiting))
        resolve(waiting, failures)

    monkeypatch.setattr(commit_queue_module, "_resolve", counted)

    await asyncio.gather(*(ledger.commit(a_record()) for _ in range(300)))

    assert sum(woken) == 300
    assert len(woken) < 30


async def test_a_repeated_request_id_is_refused_and_its_neighbours_are_written(ledger: Ledger, url: str) -> None:
    first = a_record()
    await ledger.commit(first)
    others = [a_record() for _ in range(20)]

    outcomes = await asyncio.gather(
        *(ledger.commit(record) for record in [*others[:10], first, *others[10:]]), return_exceptions=True
    )

    assert [type(outcome) for outcome in outcomes if outcome is not None] == [RecordRefused]
    assert {row["request_id"] for row in rows(url)} == {record.request_id for record in [first, *others]}


async def test_a_locked_file_is_said_and_recovered_from(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "signet.db")
    other.execute("BEGIN IMMEDIATE")

    outcomes = await asyncio.gather(*(sqlite_ledger.commit(a_record()) for _ in range(5)), return_exceptions=True)
    other.rollback()
    other.close()
    await sqlite_ledger.commit(a_record())

    assert [type(outcome) for outcome in outcomes] == [LedgerUnavailable] * 5
    assert "database is locked" in str(outcomes[0])
    assert len(rows(file_url(tmp_path))) == 1


async def test_a_full_disk_is_said_and_recovered_from(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    """SQLite's own page limit gives the same error as a full disk."""
    await sqlite_ledger.commit(a_record())
    cursor = sqlite_ledger._writer._connection.cursor()
    cursor.execute("PRAGMA max_page_count=1")

    async def fill() -> None:
        for _ in range(200):
            await sqlite_ledger.commit(a_record(engine="e" * 250))

    with pytest.raises(LedgerUnavailable, match="full"):
        await fill()
    written = len(rows(file_url(tmp_path)))
    await sqlite_ledger.commit(a_record())

    assert len(rows(file_url(tmp_path))) == written + 1


async def test_errors_name_neither_values_nor_passwords(tmp_path: Path) -> None:
    ledger = Ledger("sqlite:///" + str(tmp_path / "signet.db"), LedgerSettings(busy_timeout_s=0))
    ledger.start()
    other = sqlite3.connect(tmp_path / "signet.db")
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(LedgerUnavailable) as raised:
        await ledger.commit(a_record(tenant="a-secret-tenant"))
    other.rollback()
    other.close()
    ledger.stop()

    assert "a-secret-tenant" not in str(raised.value)
    assert "INSERT" not in str(raised.value)


async def test_stop_writes_what_is_waiting(url: str) -> None:
    ledger = Ledger(url)
    ledger.start()
    commits = [asyncio.ensure_future(ledger.commit(a_record())) for _ in range(100)]
    await asyncio.sleep(0)

    await asyncio.to_thread(ledger.stop)
    await asyncio.gather(*commits)

    assert len(rows(url)) == 100


async def test_nothing_is_taken_before_start_or_after_stop(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'signet.db'}")
    with pytest.raises(LedgerUnavailable, match="not running"):
        await ledger.commit(a_record())

    ledger.start()
    ledger.stop()
    ledger.stop()

    with pytest.raises(LedgerUnavailable, match="not running"):
        await ledger.commit(a_record())


async def test_too_many_waiting_fail_at_once(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'signet.db'}", LedgerSettings(max_pending=3, max_batch=1))
    ledger.start()
    blocker = sqlite3.connect(tmp_path / "signet.db")
    blocker.execute("BEGIN IMMEDIATE")

    commits = [asyncio.ensure_future(ledger.commit(a_record())) for _ in range(20)]
    done, waiting = await asyncio.wait(commits, timeout=0.3)
    blocker.rollback()
    blocker.close()
    await asyncio.gather(*waiting)
    ledger.stop()

    assert len(waiting) <= 4
    assert all("already wait" in str(commit.exception()) for commit in done)


async def test_a_cancelled_wait_does_not_disturb_the_others(ledger: Ledger, url: str) -> None:
    gone = asyncio.ensure_future(ledger.commit(a_record()))
    kept = asyncio.ensure_future(ledger.commit(a_record()))
    await asyncio.sleep(0)
    gone.cancel()

    await kept

    assert gone.cancelled()
    assert len(rows(url)) == 2


def test_waiters_of_a_closed_loop_do_not_stop_the_writer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ledger = Ledger(f"sqlite:///{tmp_path / 'signet.db'}")
    ledger.start()
    blocker = sqlite3.connect(tmp_path / "signet.db")
    blocker.execute("BEGIN IMMEDIATE")

    async def leave() -> None:
        waiting = asyncio.ensure_future(ledger.commit(a_record()))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(leave())
    blocker.rollback()
    blocker.close()
    asyncio.run(ledger.commit(a_record()))
    ledger.stop()

    assert len(rows(file_url(tmp_path))) == 2


@pytest.mark.parametrize("policy", ["refuse", "spill"])
async def test_a_disk_that_stalls_holds_no_answer_for_longer_than_the_timeout(
    tmp_path: Path, policy: Literal["refuse", "spill"]
) -> None:
    settings = LedgerSettings(commit_timeout_s=0.2, when_unavailable=policy)
    ledger = Ledger(file_url(tmp_path), settings, tmp_path / "journal")
    ledger.start()
    stalled, write = threading.Event(), ledger._writer.write

    def stall(entries: Sequence[Entry]) -> None:
        stalled.wait(20)
        write(entries)

    ledger._writer.write = stall  # type: ignore[method-assign]
    started = time.monotonic()
    first = await asyncio.gather(*(ledger.commit(a_record()) for _ in range(3)), return_exceptions=True)
    second = await asyncio.gather(*(ledger.commit(a_record()) for _ in range(3)), return_exceptions=True)
    took = time.monotonic() - started
    down = not ledger.up
    stalled.set()
    await asyncio.sleep(0)
    while not ledger.up or ledger.spilled:
        assert time.monotonic() - started < 20
        await asyncio.sleep(0.02)
    await ledger.commit(a_record())
    await asyncio.to_thread(ledger.stop)

    assert took < 2
    assert down
    if policy == "refuse":
        assert all("has not answered for 0.2 s" in str(outcome) for outcome in (*first, *second))
        assert len(rows(file_url(tmp_path))) == 4  # the first three were on their way when they were given up
    else:
        assert [*first, *second] == [None] * 6
        assert len(rows(file_url(tmp_path))) == 7  # each once
