"""Reading the ledger that the gateway writes: the table is the contract between the two rooms."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.drift import LedgerReader, LedgerUnreadable, Window
from monitoring.drift.window import bin_counts
from serving.ledger import Ledger, UsageRecord

_numbers = count()


def a_record(**changes: Any) -> UsageRecord:
    record = UsageRecord(f"req_{next(_numbers):024x}", 100.0, "t", "key", "bot", "chat", 200, prompt_tokens=10)
    return msgspec.structs.replace(record, **changes)


def write(folder: Path, *records: UsageRecord) -> None:
    """Through the real ledger."""

    async def commit(ledger: Ledger) -> None:
        await asyncio.gather(*(ledger.commit(record) for record in records))

    ledger = Ledger(f"sqlite:///{folder / 'signet.db'}")
    ledger.start()
    asyncio.run(commit(ledger))
    ledger.stop()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[LedgerReader]:
    reader = LedgerReader(f"sqlite:///{tmp_path / 'signet.db'}")
    yield reader
    reader.close()


def test_complete_answers_are_counted(tmp_path: Path, reader: LedgerReader) -> None:
    write(
        tmp_path,
        a_record(prompt_tokens=10, completion_tokens=5),
        a_record(prompt_tokens=10, completion_tokens=7, refused=True),
        a_record(prompt_tokens=12, completion_tokens=7, guard_hits=3),
        a_record(status=499),
        a_record(model="another"),
        a_record(created_at=99.9),
        a_record(created_at=200.0),
    )

    window = reader.read(["bot", "bot@1"], 100.0, 200.0)

    assert window == Window(
        samples=3,
        refused=1,
        guarded=1,
        prompt_tokens=Counter({10: 2, 12: 1}),
        completion_tokens=Counter({5: 1, 7: 2}),
    )


def test_without_a_model_all_are_counted(tmp_path: Path, reader: LedgerReader) -> None:
    write(tmp_path, a_record(), a_record(model="another"))

    assert reader.read([], 0.0, 200.0).samples == 2


def test_an_empty_window_is_empty(tmp_path: Path, reader: LedgerReader) -> None:
    write(tmp_path)

    assert reader.read(["bot"], 0.0, 1.0) == Window(0, 0, 0, Counter(), Counter())


def test_an_absent_ledger_is_said_and_not_made(tmp_path: Path, reader: LedgerReader) -> None:
    with pytest.raises(LedgerUnreadable, match="there is no ledger at"):
        reader.read(["bot"], 0.0, 1.0)
    assert not (tmp_path / "signet.db").exists()

    write(tmp_path, a_record())
    assert reader.read(["bot"], 0.0, 200.0).samples == 1


@pytest.mark.parametrize("content", [b"", b"this is no database, it is a text file " * 50])
def test_a_file_that_is_no_ledger_is_one_line(tmp_path: Path, reader: LedgerReader, content: bytes) -> None:
    (tmp_path / "signet.db").write_bytes(content)

    with pytest.raises(LedgerUnreadable, match="cannot be read now") as raised:
        reader.read(["bot"], 0.0, 1.0)

    assert "\n" not in str(raised.value)
    assert "SELECT" not in str(raised.value)


def test_a_ledger_that_is_being_written_is_read(tmp_path: Path, reader: LedgerReader) -> None:
    write(tmp_path, a_record())
    writer = sqlite3.connect(tmp_path / "signet.db")
    writer.execute("BEGIN IMMEDIATE")

    assert reader.read(["bot"], 0.0, 200.0).samples == 1

    writer.rollback()
    writer.close()


def test_a_locked_ledger_is_said(tmp_path: Path, reader: LedgerReader) -> None:
    write(tmp_path, a_record())
    locker = sqlite3.connect(tmp_path / "signet.db")
    locker.execute("PRAGMA locking_mode=EXCLUSIVE")
    locker.execute("BEGIN EXCLUSIVE")

    with pytest.raises(LedgerUnreadable, match="database is locked"):
        reader.read(["bot"], 0.0, 200.0)

    locker.rollback()
    locker.close()
    assert reader.read(["bot"], 0.0, 200.0).samples == 1


def test_reading_does_not_delay_the_writer(tmp_path: Path, reader: LedgerReader) -> None:
    write(tmp_path, *(a_record() for _ in range(2000)))
    stopping = threading.Event()

    def read_on() -> None:
        while not stopping.is_set():
            reader.read(["bot"], 0.0, 200.0)

    thread = threading.Thread(target=read_on)
    thread.start()
    started = time.monotonic()
    write(tmp_path, *(a_record() for _ in range(200)))
    took = time.monotonic() - started
    stopping.set()
    thread.join()

    assert took < 3


@given(lengths=st.dictionaries(st.integers(0, 5000), st.integers(1, 50), min_size=1, max_size=200))
def test_a_reference_holds_every_answer_in_about_ten_bins(lengths: dict[int, int]) -> None:
    window = Window(sum(lengths.values()), 0, 0, Counter(lengths), Counter(lengths))

    histogram = window.as_reference().prompt_tokens

    assert sum(histogram.counts) == window.samples
    assert len(histogram.counts) <= 12
    assert histogram.counts == bin_counts(Counter(lengths), histogram.edges)
    # Equally filled, as far as single lengths allow.
    heaviest = max(lengths.values())
    assert max(histogram.counts) <= window.samples / 10 + heaviest + 1


def test_lengths_outside_all_bins_count_in_the_nearest() -> None:
    assert bin_counts(Counter({0: 1, 5: 2, 10: 4, 99: 8}), [5.0, 8.0, 11.0]) == [3, 12]


def test_rates_of_a_reference() -> None:
    reference = Window(8, 2, 4, Counter({1: 8}), Counter({1: 8})).as_reference()

    assert (reference.refusal_rate, reference.guard_hit_rate, reference.samples) == (0.25, 0.5, 8)
    assert Window(0, 0, 0, Counter(), Counter()).as_reference().samples == 0
