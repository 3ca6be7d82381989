"""How long reports over a large ledger take: `python -m loadtests.benchmarks.usage_reports [--requests 10000000]`.

A private PostgreSQL with its default settings (or `--url`) gets that many requests, spread over 90 days, 50 tenants,
200 keys of very different traffic and 5 models. All are summed up; then each report is asked for again and
again, while a writer commits and the sums go on. The same report over the requests themselves is timed once.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import NamedTuple

from sqlalchemy import Engine, func, select, text

from loadtests.benchmarks.ledger_cost import a_record
from loadtests.tools.services import Postgres
from serving.database import Reader, migrate, open_engine
from serving.ledger import Ledger
from serving.ledger.record import requests
from serving.ledger.rollup import DAY_S, HOUR_S, SPANS, roll_up
from serving.ledger.usage import Group, RequestFilter, usage

DAYS = 90
# Requests a second of the writer beside the reports.
WRITTEN_PER_SECOND = 200
_FILL = """
INSERT INTO requests (request_id, created_at, tenant, key_id, model, endpoint, status, streamed, prompt_tokens,
    completion_tokens, prompt_chars, answer_chars, refused, guard_hits, mark_scheme, mark_key_id, ttft_s, duration_s,
    finish_reason, engine, asked_model, cost_nanos, policy, chain, seq, previous_hash, hash)
SELECT 'req_' || lpad(to_hex(n), 24, '0'), :start + n * :step, 'tenant_' || key % 50, 'key_' || key,
    'model-' || (CASE WHEN random() < 0.9 THEN key ELSE (random() * 4)::int END) % 5, 'chat', 200, true,
    (random() * 2000)::int, (random() * 500)::int, 4000, 1000, false, 0, 'gumbel', 'k_0123456789', 0.1, 1.5, 'stop',
    'http://10.0.0.1:8100', 'chat', (random() * 1000000)::bigint, repeat('5f', 32), 1, n, sha256(int8send(n)),
    sha256(int8send(n + 1))
FROM (SELECT n, floor(200 * power(random(), 3))::int AS key FROM generate_series(:first, :last) AS n) AS drawn
"""
_AT_ONCE = 500_000


class Report(NamedTuple):
    name: str
    by: tuple[Group, ...]
    selection: RequestFilter


def reports(now: float) -> list[Report]:
    """What a console asks for."""
    hour = now // HOUR_S * HOUR_S
    month = RequestFilter(hour - 30 * DAY_S)
    return [
        Report("30 days by tenant", ("tenant",), month),
        Report("30 days by key", ("key",), month),
        Report("30 days by model", ("model",), month),
        Report("30 days by tenant, key and model", ("tenant", "key", "model"), month),
        Report("30 days by day and model", ("day", "model"), month),
        Report("30 days of one tenant, by day and key", ("day", "key"), month._replace(tenant="tenant_3")),
        Report("7 days by tenant, from and to the minute", ("tenant",), RequestFilter(now - 7 * DAY_S - 61, now - 61)),
        Report("90 days by tenant", ("tenant",), RequestFilter()),
        Report("all that one key has spent", (), RequestFilter(key="key_7")),
    ]


def fill(engine: Engine, num_requests: int, now: float) -> None:
    """Requests in the order of their ids and times, as gateways write them."""
    step = DAYS * DAY_S / num_requests
    for first in range(1, num_requests + 1, _AT_ONCE):
        last = min(first + _AT_ONCE - 1, num_requests)
        values = {"start": now - DAYS * DAY_S, "step": step, "first": first, "last": last}
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            connection.execute(text(_FILL), values)
        print(f"{last:,} requests", flush=True)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


@contextmanager
def writing(url: str) -> Iterator[None]:
    """A ledger that commits and sums up meanwhile, as a gateway's does."""
    stop = threading.Event()

    async def write() -> None:
        ledger = Ledger(url)
        ledger.start()
        while not stop.is_set():
            await ledger.commit(a_record())
            await asyncio.sleep(1 / WRITTEN_PER_SECOND)
        await asyncio.to_thread(ledger.stop)

    thread = threading.Thread(target=lambda: asyncio.run(write()))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def timed(work: Callable[[], object], times: int) -> tuple[float, float]:
    """p50 and p95 in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken), statistics.quantiles(taken, n=20)[-1]


def over_requests(engine: Engine, selection: RequestFilter) -> None:
    """The report by tenant without the sums."""
    query = selection.of(select(requests.c.tenant, func.count(), func.sum(requests.c.cost_nanos)))
    with engine.connect() as connection:
        connection.execute(query.group_by(requests.c.tenant)).all()


def measure(url: str, num_requests: int, times: int) -> None:
    """Print what the reports take; fill the database first, unless it is full already."""
    engine = open_engine(url)
    migrate(engine)
    with engine.connect() as connection:
        now = connection.scalar(select(func.max(requests.c.created_at)))
    if now is None:
        now = time.time()
        fill(engine, num_requests, now)
    started = time.perf_counter()
    roll_up(engine)
    with engine.connect() as connection:
        days, hours = (connection.scalar(select(func.count()).select_from(table)) for table, _ in SPANS)
    print(f"summed up in {time.perf_counter() - started:.0f} s: {days:,} rows of days, {hours:,} of hours")
    print("| report | rows | p50 ms | p95 ms |\n|---|---|---|---|")
    with closing(Reader(url)) as reader, writing(url):
        for name, by, selection in reports(now):
            rows = len(usage(reader, by, selection))
            p50, p95 = timed(partial(usage, reader, by, selection), times)
            print(f"| {name} | {rows} | {p50:.0f} | {p95:.0f} |", flush=True)
    for name, _, selection in (reports(now)[0], reports(now)[7]):
        p50, _ = timed(partial(over_requests, engine, selection), 3)
        print(f"| {name}, over the requests | 50 | {p50:.0f} | |", flush=True)
    engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=60, help="How often each report is asked for.")
    parser.add_argument("--url", help="A database to fill, or one that was filled before. It is written to.")
    arguments = parser.parse_args()
    if arguments.url:
        measure(arguments.url, arguments.requests, arguments.times)
        return
    with Postgres.run() as database:
        measure(database.url, arguments.requests, arguments.times)


if __name__ == "__main__":
    main()
