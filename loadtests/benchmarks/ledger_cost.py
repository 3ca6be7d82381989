"""What a durable record costs: `python -m loadtests.benchmarks.ledger_cost [--url URL] [--concurrency 32]`.

So many coroutines each commit one record after another, on uvloop, as the gateway's requests do. CPU is of the
whole process, the writer's thread included, less that of the same loop without a ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from serving.gateway.context import new_request_id
from serving.ledger import Ledger, UsageRecord

Commit = Callable[[UsageRecord], Awaitable[None]]


def a_record() -> UsageRecord:
    """A record of ordinary size."""
    return UsageRecord(
        request_id=new_request_id(),
        created_at=time.time(),
        tenant="acme",
        key_id="key_0123456789abcdef",
        model="smollm2-135m-instruct",
        endpoint="chat",
        status=200,
        streamed=True,
        prompt_tokens=120,
        completion_tokens=64,
        prompt_chars=480,
        answer_chars=256,
        mark_scheme="gumbel",
        mark_key_id="k_0123456789",
        ttft_s=0.012345,
        duration_s=0.123456,
        finish_reason="stop",
        engine="http://127.0.0.1:8100",
        asked_model="smollm2-135m-instruct",
        cost_nanos=123_456,
        policy="5f" * 32,
    )


async def run(commit: Commit, concurrency: int, num_records: int) -> tuple[float, float, list[float]]:
    """CPU seconds, wall seconds, and each commit's latency in seconds."""
    latencies: list[float] = []

    async def client() -> None:
        for _ in range(num_records // concurrency):
            record = a_record()
            started = time.perf_counter()
            await commit(record)
            latencies.append(time.perf_counter() - started)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return time.process_time() - cpu, time.perf_counter() - wall, latencies


async def measure(url: str, concurrency: int, num_records: int) -> None:
    """Print one line."""

    async def nothing(_: UsageRecord) -> None:
        await asyncio.sleep(0)

    idle_cpu, _, _ = await run(nothing, concurrency, num_records)
    ledger = Ledger(url)
    ledger.start()
    await run(ledger.commit, concurrency, num_records // 10)
    cpu, wall, latencies = await run(ledger.commit, concurrency, num_records)
    ledger.stop()
    latencies.sort()
    p50, p99 = (1000 * latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
    each = 1e6 * (cpu - idle_cpu) / len(latencies)
    print(
        f"{url.partition(':')[0]}, {concurrency} at once: {each:.1f} µs CPU a record, "
        f"{len(latencies) / wall:,.0f} records/s, latency p50 {p50:.2f} p99 {p99:.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="Database; default: a new SQLite file in the temporary folder.")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--records", type=int, default=40_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.url or f"sqlite:///{Path(folder) / 'signet.db'}"
        uvloop.run(measure(url, arguments.concurrency, arguments.records))


if __name__ == "__main__":
    main()
