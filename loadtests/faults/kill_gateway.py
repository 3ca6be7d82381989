"""Kills the gateway under load, again and again.

    python -m loadtests.faults.kill_gateway [--database sqlite|postgres]

Every answer that a client saw complete must be in the ledger, once, and the hash chains must hold. A stand-in engine
answers; half of the clients read streams. PostgreSQL is a private server, started as the tests start it. Ends with 1
when anything is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from sqlalchemy import select

from loadtests.tools.processes import REPOSITORY
from loadtests.tools.services import Postgres
from serving.database import open_engine
from serving.ledger.record import requests
from serving.ledger.verify import Report, verify
from training.studies.sections import write_section

START_TIMEOUT_S = 30.0
DATABASES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}


@dataclass
class Seen:
    """What the clients saw."""

    complete: list[str] = field(default_factory=list)
    """Request ids of answers that arrived to their last byte."""
    cut: int = 0
    failed: Counter[str] = field(default_factory=Counter)


@contextmanager
def database(kind: str, home: Path) -> Iterator[str]:
    """URL of an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{home / 'signet.db'}"
        return
    with Postgres.run() as server:
        yield server.url


@contextmanager
def running(arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program, killed with its children when the block ends, if it was not before."""
    command = [sys.executable, "-m", *arguments]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def client(session: aiohttp.ClientSession, url: str, seen: Seen, stream: bool) -> None:
    """Ask for ever; note which answers came whole."""
    body = {"model": "standin", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "stream": stream}
    while True:
        try:
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError):
            seen.cut += 1
            await asyncio.sleep(0.02)
            continue
        whole = answer.rstrip().endswith(b"data: [DONE]") if stream else answer.endswith(b"}")
        if response.status == 200 and whole and b'"error"' not in answer:
            seen.complete.append(response.headers["x-request-id"])
        else:
            seen.failed[str(response.status)] += 1
            await asyncio.sleep(0.02)


async def until_ready(session: aiohttp.ClientSession, url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(aiohttp.ClientError, OSError):
            async with session.get(f"{url}/readyz/engines") as response:
                if response.status == 200:
                    return
        await asyncio.sleep(0.02)
    raise SystemExit(f"{url} did not become ready")


async def campaign(kills: int, clients: int, environment: dict[str, str]) -> Seen:
    """Start the gateway, load it, kill it, so many times."""
    port, engine_port = random.sample(range(20_000, 30_000), 2)
    url, engine_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{engine_port}"
    created = subprocess.run(  # noqa: ASYNC221 (nothing else runs yet)
        [sys.executable, "-m", "signet", "keys", "create", "--tenant", "campaign", "--json"],
        env=environment,
        capture_output=True,
        check=True,
    )
    key = json.loads(created.stdout)["key"]
    seen = Seen()
    arguments = ["signet", "gateway", "--port", str(port), "--engine-url", engine_url]
    headers = {"authorization": f"Bearer {key}"}
    timeout = aiohttp.ClientTimeout(total=20)
    with running(["loadtests.tools.standin", "--port", str(engine_port)], environment):
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            tasks = [asyncio.create_task(client(session, url, seen, index % 2 == 0)) for index in range(clients)]
            for _ in range(kills):
                with running(arguments, environment):
                    await until_ready(session, url)
                    await asyncio.sleep(random.uniform(0.1, 0.6))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return seen


def judge(url: str, seen: Seen) -> tuple[list[str], int, Report]:
    """Complete answers that the ledger lacks, the number of its requests, and what the chains say."""
    engine = open_engine(url)
    with engine.connect() as connection:
        kept = list(connection.scalars(select(requests.c.request_id)))
    report = verify(engine)
    engine.dispose()
    assert len(kept) == len(set(kept))
    return sorted(set(seen.complete) - set(kept)), len(kept), report


def result(given: argparse.Namespace, seconds: float, seen: Seen, missing: int, kept: int, report: Report) -> str:
    """A section of a page."""
    command = f"python -m loadtests.faults.kill_gateway --database {given.database} --kills {given.kills}"
    return f"""`{command}`, {datetime.now(UTC):%Y-%m-%d}, {seconds:.0f} s: {given.clients} clients, half of them reading
streams, in front of a stand-in engine; the gateway killed with SIGKILL 0.1 to 0.6 s after each start, database kept.

| | |
|---|---|
| kills | {given.kills} |
| answers that a client saw complete | {len(seen.complete):,} |
| of them missing in the ledger | {missing} |
| requests in the ledger, each once | {kept:,} |
| connections cut or refused by the kills | {seen.cut:,} |
| answers that failed otherwise | {sum(seen.failed.values()):,} |
| hash chains | {report.num_chains} |
| findings of `signet audit verify` | {report.num_findings} |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=[*DATABASES], default="sqlite")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--out", type=Path, help="write the result into this page's section")
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, database(given.database, Path(folder)) as url:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SIGNET_")}
        environment = {**clean, "SIGNET_HOME": folder, "SIGNET_DATABASE__URL": url}
        environment["SIGNET_GATEWAY__PROBE_INTERVAL_S"] = "0.1"
        environment["PYTHONPATH"] = str(REPOSITORY)
        seen = asyncio.run(campaign(given.kills, given.clients, environment))
        missing, kept, report = judge(url, seen)
    text = result(given, time.monotonic() - started, seen, len(missing), kept, report)
    print(text)
    for line in (*missing[:10], *report.findings[:10]):
        print(line)
    if given.out is not None:
        write_section(given.out, f"Gateway killed, {DATABASES[given.database]}", text)
    if missing or report.num_findings or not seen.complete:
        sys.exit(1)


if __name__ == "__main__":
    main()
