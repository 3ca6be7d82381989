"""The database goes away and comes back: answers are refused or spilled as configured, and nothing promised is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtests.tools.services import Postgres
from serving.database import open_engine
from serving.ledger import Ledger, LedgerSettings, LedgerUnavailable
from serving.ledger.verify import verify
from tests.support.ledgers import a_record, rows
from tests.support.running import wait_until

pytestmark = pytest.mark.services
REFUSE = LedgerSettings(commit_timeout_s=1.0)
SPILL = LedgerSettings(commit_timeout_s=1.0, when_unavailable="spill")


class Load:
    """Clients that commit all the time; knows which records were promised and which refused."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.promised: set[str] = set()
        self.refused: list[str] = []
        self.slowest_s = 0.0
        self._tasks = [asyncio.ensure_future(self._client()) for _ in range(8)]

    async def _client(self) -> None:
        while True:
            record = a_record()
            started = time.perf_counter()
            try:
                await self.ledger.commit(record)
                self.promised.add(record.request_id)
            except LedgerUnavailable as error:
                self.refused.append(str(error))
            self.slowest_s = max(self.slowest_s, time.perf_counter() - started)
            await asyncio.sleep(0.002)

    async def more(self, num_promised: int, seconds: float = 20.0) -> None:
        """Return when so many more were promised."""
        goal = len(self.promised) + num_promised
        await until(lambda: len(self.promised) >= goal, seconds)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def until(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


def check(url: str, promised: set[str]) -> None:
    """All that was promised is there, once, and the chains hold."""
    kept = [row["request_id"] for row in rows(url)]
    engine = open_engine(url)
    report = verify(engine)
    engine.dispose()
    assert promised <= set(kept)
    assert len(kept) == len(set(kept))
    assert report.findings == []


async def test_a_killed_server_is_said_and_found_again(postgres: Postgres, tmp_path: Path) -> None:
    ledger = Ledger(postgres.url, REFUSE, tmp_path / "journal")
    ledger.start()
    load = Load(ledger)
    await load.more(50)
    for _ in range(3):
        await asyncio.to_thread(postgres.kill)
        before = len(load.refused)
        await until(lambda before=before: len(load.refused) > before + 20)
        assert not ledger.up
        await asyncio.to_thread(postgres.start)
        await load.more(50)
        assert ledger.up
    await load.stop()
    await asyncio.to_thread(ledger.stop)

    assert load.slowest_s < 3
    assert all("secret" not in reason for reason in load.refused)
    check(postgres.url, load.promised)


async def test_a_killed_server_costs_no_answer_when_records_are_spilled(postgres: Postgres, tmp_path: Path) -> None:
    ledger = Ledger(postgres.url, SPILL, tmp_path / "journal")
    ledger.start()
    load = Load(ledger)
    await load.more(50)
    for _ in range(2):
        await asyncio.to_thread(postgres.kill)
        await load.more(200)
        assert ledger.spilled > 0
        await asyncio.to_thread(postgres.start)
        await until(lambda: ledger.spilled == 0)
        await load.more(50)
    await load.stop()
    await asyncio.to_thread(ledger.stop)

    assert load.refused == []
    assert ledger.num_spilled >= 400
    assert list((tmp_path / "journal").iterdir()) == []
    check(postgres.url, load.promised)


@pytest.mark.parametrize("settings", [REFUSE, SPILL], ids=["refuse", "spill"])
async def test_a_server_that_hangs_holds_no_answer_for_long(
    postgres: Postgres, tmp_path: Path, settings: LedgerSettings
) -> None:
    ledger = Ledger(postgres.url, settings, tmp_path / "journal")
    ledger.start()
    load = Load(ledger)
    await load.more(50)
    postgres.signal(signal.SIGSTOP)
    before = len(load.refused)
    try:
        if settings is SPILL:
            await load.more(200)
        else:
            await until(lambda: len(load.refused) > before + 20)
    finally:
        postgres.signal(signal.SIGCONT)
    await load.more(100)
    await until(lambda: ledger.up and ledger.spilled == 0)
    await load.stop()
    await asyncio.to_thread(ledger.stop)

    assert load.slowest_s < 3
    if settings is REFUSE:
        assert any("has not answered for 1 s" in reason for reason in load.refused)
    else:
        assert load.refused == []
    check(postgres.url, load.promised)


SPILLER = """
import asyncio, os, signal, sys
from pathlib import Path
from serving.ledger import Ledger, LedgerSettings, UsageRecord
import uuid

async def one(ledger):
    while True:
        record = UsageRecord("req_" + uuid.uuid4().hex[:24], 1.0, "t", "key", "m", "chat", 200)
        await ledger.commit(record)
        sys.stdout.write(record.request_id + "\\n")
        sys.stdout.flush()

async def main():
    ledger = Ledger(sys.argv[1], LedgerSettings(when_unavailable="spill"), Path(sys.argv[2]))
    ledger.start()
    print("started", flush=True)
    await asyncio.gather(*(one(ledger) for _ in range(8)))

asyncio.run(main())
"""


def test_what_was_spilled_survives_kill_9_and_is_replayed_by_the_next(postgres: Postgres, tmp_path: Path) -> None:
    journal, printed = tmp_path / "journal", tmp_path / "printed"
    with printed.open("wb") as stdout:
        process = subprocess.Popen([sys.executable, "-c", SPILLER, postgres.url, str(journal)], stdout=stdout)
    wait_until(lambda: printed.stat().st_size > 3000, 20, "the writer writes", process)
    postgres.kill()
    size = printed.stat().st_size
    wait_until(lambda: printed.stat().st_size > size + 6000, 20, "the writer spills", process)
    process.kill()
    process.wait()
    [file] = journal.iterdir()
    with file.open("ab") as torn:
        torn.write(b'0badc0de {"type":"request","request_id":"req_torn')
    postgres.start()

    next_one = Ledger(postgres.url, REFUSE, journal)
    next_one.start()
    wait_until(lambda: next_one.spilled == 0, 20, "the journal is replayed")
    next_one.stop()

    complete, _, _ = printed.read_text().rpartition("\n")
    check(postgres.url, set(complete.splitlines()) - {"started"})
    assert list(journal.iterdir()) == []


async def test_a_full_disk_under_the_database_spills_to_another(small_disk: Path, tmp_path: Path) -> None:
    """SQLite on a small real file system, the journal on a large one: no answer is refused, and all come back."""
    ledger = Ledger(f"sqlite:///{small_disk / 'signet.db'}", SPILL, tmp_path / "journal")
    ledger.start()
    records = [a_record(engine="e" * 250) for _ in range(400)]
    for record in records:
        await ledger.commit(record)
    assert ledger.spilled > 0
    size = os.statvfs(small_disk).f_bavail
    remount = ["mount", "-o", "remount,size=16m", str(small_disk)]
    await asyncio.to_thread(subprocess.run, remount, check=True)
    assert os.statvfs(small_disk).f_bavail > size
    await until(lambda: ledger.spilled == 0)
    await asyncio.to_thread(ledger.stop)

    check(f"sqlite:///{small_disk / 'signet.db'}", {record.request_id for record in records})


async def test_settings_are_taken_over_while_running(postgres: Postgres, tmp_path: Path) -> None:
    ledger = Ledger(postgres.url, REFUSE, tmp_path / "journal")
    ledger.start()
    await ledger.commit(a_record())
    await asyncio.to_thread(postgres.kill)
    with pytest.raises(LedgerUnavailable):
        await ledger.commit(a_record())

    ledger.apply(SPILL)
    await ledger.commit(a_record())
    with pytest.raises(ValueError, match="needs a restart"):
        ledger.apply(LedgerSettings(busy_timeout_s=9))

    assert ledger.spilled == 1
    await asyncio.to_thread(postgres.start)
    await until(lambda: ledger.spilled == 0)
    await asyncio.to_thread(ledger.stop)
    assert len(rows(postgres.url)) == 2
