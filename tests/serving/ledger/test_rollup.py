"""Every request gets into the sums once: out of order, beside other processes, whoever is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial

import msgspec
import pytest
from sqlalchemy import Engine, func, insert, select, union_all

from loadtests.tools.services import Postgres
from serving.database import Reader, migrate, open_engine
from serving.ledger import Ledger, UsageRecord, rollup
from serving.ledger.record import requests
from serving.ledger.rollup import HOUR_S, MODEL_CHARS, roll_up, rolled_up_to, settled_id, usage_days, usage_hours
from serving.ledger.usage import Group, Usage, usage
from tests.support.ledgers import a_record, rows
from tests.support.running import wait_until

# Writes for ever and sums up for ever, each in a thread, as a gateway does.
WRITER = """
import asyncio, sys, time
from serving.ledger import Ledger, UsageRecord, rollup
rollup.PAUSE_S, rollup.CHUNK = 0.01, 7
rollup.Rollup.__init__.__defaults__ = (0.001,)

async def main():
    ledger = Ledger(sys.argv[1])
    ledger.start()
    number = int(sys.argv[2])
    while True:
        await asyncio.gather(*(ledger.commit(UsageRecord(
            f"req_{number}_{time.time_ns()}_{n}", time.time() - 3600 * (n % 3), "ab"[n % 2], "k", "m", "chat", 200,
            prompt_tokens=n, completion_tokens=1, cost_nanos=n * 10**9,
        )) for n in range(5)))

asyncio.run(main())
"""


def summed_up(engine: Engine) -> tuple[int, ...]:
    """What the sums add up to: those of hours and of days say the same."""
    names = ("requests", "prompt_tokens", "completion_tokens", "cost_nanos")
    queries = (select(*(func.sum(table.c[name]) for name in names)) for table in (usage_days, usage_hours))
    with engine.connect() as connection:
        [row] = set(connection.execute(union_all(*queries)).all())
    return tuple(int(value or 0) for value in row)


def report(url: str, *by: Group) -> list[Usage]:
    with closing(Reader(url)) as reader:
        return usage(reader, by)


def has_summed(engine: Engine, num_requests: int) -> bool:
    return summed_up(engine)[0] > num_requests


def summed_requests(url: str) -> tuple[int, ...]:
    kept = rows(url)
    names = ("prompt_tokens", "completion_tokens", "cost_nanos")
    return (len(kept), *(sum(row[name] for row in kept) for name in names))


def fill(engine: Engine, *records: UsageRecord) -> None:
    with engine.begin() as connection:
        connection.execute(insert(requests), [msgspec.structs.asdict(record) for record in records])


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "CHUNK", 3)
    monkeypatch.setattr(rollup, "PAUSE_S", 0.0)


@pytest.mark.usefixtures("small_chunks")
def test_all_that_there_is_is_summed_up_in_steps(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    fill(engine, *(a_record(created_at=10_000.0 * n, prompt_tokens=n) for n in range(10)))
    steps: list[tuple[int, int]] = []

    roll_up(engine, lambda reached, last: steps.append((reached, last)))
    roll_up(engine)

    assert steps == [(3, 10), (6, 10), (9, 10), (10, 10)]
    assert summed_up(engine) == summed_requests(url) == (10, 45, 0, 0)
    with engine.connect() as connection:
        hours = connection.scalars(select(usage_hours.c.hour).order_by(usage_hours.c.hour)).all()
    assert hours == [10_000 * n // HOUR_S * HOUR_S for n in range(10)]
    engine.dispose()


def test_models_with_names_of_any_length_are_summed_up(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    fill(engine, a_record(model="m" * 20_000), a_record(model="\u96ea" * 20_000))

    before = report(url, "model")
    roll_up(engine)

    assert report(url, "model") == before
    assert [len(row.group[0]) for row in before] == [MODEL_CHARS, MODEL_CHARS]
    engine.dispose()


@pytest.mark.services
def test_a_request_that_commits_late_is_not_left_out(postgres: Postgres) -> None:
    """Its id is smaller than one that is there already."""
    engine = open_engine(postgres.url)
    migrate(engine)
    late = engine.connect()
    late.execute(insert(requests), [msgspec.structs.asdict(a_record())])
    fill(engine, a_record(), a_record())
    settled: list[int] = []
    waiting = threading.Thread(target=lambda: settled.append(settled_id(engine)))

    waiting.start()
    time.sleep(0.2)
    assert settled == [], "it waits for who may hold a smaller id"
    late.commit()
    waiting.join(10)
    late.close()
    roll_up(engine)

    assert settled == [3]
    assert summed_up(engine)[0] == 3
    engine.dispose()


@pytest.mark.services
def test_a_transaction_that_never_ends_stops_the_sums_and_no_report(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup, "_WRITERS_TIMEOUT_S", 0.05)
    engine = open_engine(postgres.url)
    migrate(engine)
    with engine.connect() as hung:
        hung.execute(insert(requests), [msgspec.structs.asdict(a_record())])
        fill(engine, a_record(), a_record())
        roll_up(engine)
        with engine.connect() as connection:
            reached = rolled_up_to(connection)
        found = report(postgres.url)

    assert (reached, found[0].requests) == (0, 2)
    engine.dispose()


async def test_a_running_ledger_sums_up_by_itself(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup.Rollup.__init__, "__defaults__", (0.01,))
    ledger = Ledger(url)
    ledger.start()
    await ledger.commit(a_record(prompt_tokens=5))
    engine = open_engine(url)
    wait_until(lambda: summed_up(engine) == (1, 5, 0, 0), 10, "the request is in the sums")
    ledger.stop()
    engine.dispose()


def test_no_kill_leaves_a_request_out_or_counts_it_twice(url: str) -> None:
    drawn = random.Random(0)
    engine = open_engine(url)
    migrate(engine)
    for round_ in range(3):
        enough = summed_up(engine)[0] + 50
        writers = [subprocess.Popen([sys.executable, "-c", WRITER, url, str(n)]) for n in (2 * round_, 2 * round_ + 1)]
        try:
            wait_until(partial(has_summed, engine, enough), 60, "the writers write", writers[0])
            time.sleep(drawn.uniform(0, 0.2))
        finally:
            for writer in writers:
                writer.send_signal(signal.SIGKILL)
                writer.wait()
        expected = summed_requests(url)
        assert tuple(report(url)[0][1:]) == expected
    roll_up(engine)

    assert summed_up(engine) == summed_requests(url)
    engine.dispose()
