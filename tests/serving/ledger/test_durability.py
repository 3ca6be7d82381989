"""What was said to be durable survives `kill -9`."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

WRITER = """
import asyncio, sys, uuid
from serving.ledger import Ledger, UsageRecord

async def one(ledger):
    while True:
        request_id = "req_" + uuid.uuid4().hex[:24]
        await ledger.commit(UsageRecord(request_id, 1.0, "t", "key", "m", "chat", 200))
        sys.stdout.write(request_id + "\\n")
        sys.stdout.flush()

async def main():
    ledger = Ledger("sqlite:///" + sys.argv[1])
    ledger.start()
    await asyncio.gather(*(one(ledger) for _ in range(16)))

asyncio.run(main())
"""


def test_a_committed_record_survives_kill_9(tmp_path: Path) -> None:
    """Killed at a random moment, five times over the same file; the client's view is what was printed."""
    database = tmp_path / "signet.db"
    promised: set[str] = set()
    for round_number in range(5):
        printed = tmp_path / f"printed-{round_number}"
        with printed.open("wb") as stdout:
            process = subprocess.Popen([sys.executable, "-c", WRITER, str(database)], stdout=stdout)
            deadline = time.monotonic() + 30
            while printed.stat().st_size < 2000 and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(random.uniform(0, 0.1))  # the moment of death is what is random, nothing is waited for
            process.kill()
            process.wait()
        complete, _, _ = printed.read_text().rpartition("\n")
        promised |= set(complete.splitlines())

    connection = sqlite3.connect(database)
    kept = {row[0] for row in connection.execute("SELECT request_id FROM requests")}
    sound = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()

    assert len(promised) > 250
    assert promised <= kept
    assert sound == "ok"
