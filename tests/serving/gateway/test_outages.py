"""PostgreSQL, Redis and the disk fail under a gateway that is being asked, and come back."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.tools.services import Postgres, Redis
from serving.database import open_engine
from serving.ledger.verify import verify
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.ledgers import rows
from tests.support.load import EngineProcess, Seen, load, metric, more
from tests.support.running import wait_until

REFUSED = {"refused ledger_unavailable", "ended ledger_unavailable"}
# An answer of the stand-in has 24 tokens and so costs $0.000024.
PRICES = json.dumps({"standin": {"prompt_per_million": "0", "completion_per_million": "1"}})
ANSWER_NANOS = 24_000


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with EngineProcess.run() as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres.run() as running:
        yield running


@pytest.fixture
def postgres(server: Postgres) -> Postgres:
    server.reset()
    return server


def check_ledger(url: str, seen: Seen) -> None:
    """Every complete answer is there, once, and the chains hold."""
    kept = [row["request_id"] for row in rows(url)]
    assert len(kept) == len(set(kept))
    assert not set(seen.complete) - set(kept)
    database = open_engine(url)
    report = verify(database)
    database.dispose()
    assert not report.num_findings, report.findings


def break_postgresql(engine: EngineProcess, postgres: Postgres, home: Path, when_unavailable: str, rounds: int) -> None:
    """Killed, then stopped, so many times: nothing is lost, nothing hangs, and only `refuse` refuses."""
    settings = {
        "SIGNET_DATABASE__URL": postgres.url,
        "SIGNET_LEDGER__COMMIT_TIMEOUT_S": "0.5",
        "SIGNET_LEDGER__WHEN_UNAVAILABLE": when_unavailable,
    }
    spills = when_unavailable == "spill"
    gateway = start_gateway(home, engine.url, **settings)
    try:
        wait_until(lambda: metric(gateway.url, "signet_gateway_engine_up") == 1, 10, "the engine is up")
        with load(gateway.url, gateway.key) as seen:
            for outage in ("killed", "stopped") * rounds:
                more(seen)
                postgres.kill() if outage == "killed" else postgres.signal(signal.SIGSTOP)
                more(seen, 30, "complete" if spills else "refused ledger_unavailable")
                assert metric(gateway.url, "signet_ledger_up") == 0
                postgres.start() if outage == "killed" else postgres.signal(signal.SIGCONT)
                wait_until(lambda: metric(gateway.url, "signet_ledger_up") == 1, 15, "the ledger is back")
        wait_until(lambda: metric(gateway.url, "signet_ledger_spilled") == 0, 15, "the journal has been replayed")
    finally:
        assert stop_gateway(gateway) == 0
    assert set(seen.failed) <= (set() if spills else REFUSED)
    check_ledger(postgres.url, seen)


@pytest.mark.services
@pytest.mark.parametrize("when_unavailable", ["refuse", "spill"])
def test_postgresql_goes_and_comes_back(
    when_unavailable: str, engine: EngineProcess, postgres: Postgres, tmp_path: Path
) -> None:
    break_postgresql(engine, postgres, tmp_path, when_unavailable, rounds=1)


@pytest.mark.faults
@pytest.mark.services
@pytest.mark.parametrize("when_unavailable", ["refuse", "spill"])
def test_postgresql_goes_and_comes_back_again_and_again(
    when_unavailable: str, engine: EngineProcess, postgres: Postgres, tmp_path: Path
) -> None:
    break_postgresql(engine, postgres, tmp_path, when_unavailable, rounds=10)


@pytest.mark.services
def test_a_budget_of_two_replicas_holds_while_redis_goes_and_comes_back(
    engine: EngineProcess, postgres: Postgres, tmp_path: Path
) -> None:
    """Counted together it is kept exactly; each alone, it is overspent by no more than what the other spends."""
    # Clients that pause do not spend it while the outages last.
    budget_nanos = 2000 * ANSWER_NANOS
    gateways: list[RunningGateway] = []
    with Redis.run() as redis:
        settings = {
            "SIGNET_DATABASE__URL": postgres.url,
            "SIGNET_PRICES": PRICES,
            "SIGNET_IDENTITY__LIMITS_URL": redis.url,
            "SIGNET_IDENTITY__LIMITS_TIMEOUT_S": "0.2",
            "SIGNET_IDENTITY__POLL_INTERVAL_S": "0.1",
        }
        try:
            for name in ("one", "other"):
                home = tmp_path / name
                home.mkdir()
                gateways.append(start_gateway(home, engine.url, **settings))
            one, other = gateways
            key = one.new_key("--budget", f"total={budget_nanos / 1e9:.6f}", **settings)
            wait_until(lambda: other.knows(key), 5, "the other replica knows the key")
            with load(one.url, key, 4, pause_s=0.05) as first, load(other.url, key, 4, pause_s=0.05) as second:
                for outage in ("killed", "stopped"):
                    more(first, 50)
                    redis.kill() if outage == "killed" else redis.signal(signal.SIGSTOP)
                    more(first, 50)
                    more(second, 50)
                    # A stopped server accepts connections, so that for a moment each may take it to be back.
                    wait_until(
                        lambda: [metric(gateway.url, "signet_limits_degraded") for gateway in gateways] == [1, 1],
                        10,
                        "both say that they count alone",
                    )
                    redis.start() if outage == "killed" else redis.signal(signal.SIGCONT)
                    wait_until(
                        lambda: [metric(gateway.url, "signet_limits_degraded") for gateway in gateways] == [0, 0],
                        10,
                        "they count together again",
                    )
                with load(one.url, key, 4) as third, load(other.url, key, 4) as fourth:
                    more(third, 10, "refused insufficient_quota", within_s=90)
                    more(fourth, 10, "refused insufficient_quota", within_s=90)
                    spent_at_the_end = sum(row["cost_nanos"] for row in rows(postgres.url))
                    more(third, 10, "refused insufficient_quota")
        finally:
            assert [stop_gateway(gateway) for gateway in gateways] == [0] * len(gateways)
    clients = (first, second, third, fourth)
    assert {failure for seen in clients for failure in seen.failed} <= {
        "refused insufficient_quota",
        "refused budget_reserved",
    }
    spent = sum(row["cost_nanos"] for row in rows(postgres.url))
    assert budget_nanos * 0.9 <= spent <= 2 * budget_nanos
    assert spent - spent_at_the_end <= 8 * ANSWER_NANOS, "answers that were open at that moment"
    for seen in clients:
        check_ledger(postgres.url, seen)


@pytest.mark.faults
@pytest.mark.services
def test_no_place_leaks_while_redis_goes_and_comes_back_again_and_again(engine: EngineProcess, tmp_path: Path) -> None:
    """As many clients as the key may have requests open: one place lost, and somebody would be refused."""
    with Redis.run() as redis:
        gateway = start_gateway(tmp_path, engine.url, SIGNET_IDENTITY__LIMITS_URL=redis.url)
        try:
            wait_until(lambda: metric(gateway.url, "signet_gateway_engine_up") == 1, 10, "the engine is up")
            key = gateway.new_key("--concurrency", "8")
            with load(gateway.url, key, num_clients=8, pause_s=0.02) as seen:
                for outage in ("killed", "stopped") * 10:
                    more(seen, 50)
                    redis.kill() if outage == "killed" else redis.signal(signal.SIGSTOP)
                    more(seen, 50)
                    assert metric(gateway.url, "signet_limits_degraded") == 1
                    redis.start() if outage == "killed" else redis.signal(signal.SIGCONT)
                    wait_until(lambda: metric(gateway.url, "signet_limits_degraded") == 0, 10, "it is back")
        finally:
            assert stop_gateway(gateway) == 0
    assert not seen.failed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("when_unavailable", ["refuse", "spill"])
def test_a_full_disk_refuses_and_loses_nothing(when_unavailable: str, engine: EngineProcess, small_disk: Path) -> None:
    """SQLite and its journal lie on the same disk: full, neither takes a record, and no answer gets out."""
    ballast = small_disk / "ballast"
    gateway = start_gateway(small_disk, engine.url, SIGNET_LEDGER__WHEN_UNAVAILABLE=when_unavailable)
    try:
        wait_until(lambda: metric(gateway.url, "signet_gateway_engine_up") == 1, 10, "the engine is up")
        with load(gateway.url, gateway.key) as seen:
            more(seen)
            fill(ballast)
            more(seen, 30, "refused ledger_unavailable")
            before = seen.outcomes["complete"]
            more(seen, 30, "refused ledger_unavailable")
            assert seen.outcomes["complete"] == before
            ballast.unlink()
            more(seen, 50)
        wait_until(lambda: metric(gateway.url, "signet_ledger_spilled") == 0, 15, "the journal has been replayed")
    finally:
        assert stop_gateway(gateway) == 0
    assert set(seen.failed) <= REFUSED
    check_ledger(f"sqlite:///{small_disk / 'signet.db'}", seen)


def test_files_that_may_not_grow_refuse_and_lose_nothing(engine: EngineProcess, tmp_path: Path) -> None:
    """The same without a file system of its own: the kernel refuses every write, and then allows it again."""
    gateway = start_gateway(tmp_path, engine.url)
    try:
        wait_until(lambda: metric(gateway.url, "signet_gateway_engine_up") == 1, 10, "the engine is up")
        with load(gateway.url, gateway.key) as seen:
            more(seen)
            before = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (0, before[1]))
            more(seen, 30, "refused ledger_unavailable")
            resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, before)
            more(seen, 50)
    finally:
        assert stop_gateway(gateway) == 0
    assert set(seen.failed) <= REFUSED
    check_ledger(f"sqlite:///{tmp_path / 'signet.db'}", seen)


def fill(file: Path) -> None:
    """Write until the disk is full, to its last byte."""
    with file.open("wb", buffering=0) as ballast:
        for size in (65536, 4096, 1):
            try:
                while True:
                    ballast.write(b"\0" * size)
            except OSError:
                continue
    assert shutil.disk_usage(file.parent).free == 0
