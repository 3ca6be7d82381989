"""The database that identity and ledger share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from serving.database import DatabaseError, DatabaseSettings, open_engine
from serving.ledger import Ledger


def test_the_default_is_a_file_in_home(tmp_path: Path) -> None:
    assert DatabaseSettings().resolve(tmp_path) == f"sqlite:///{tmp_path}/signet.db"
    assert DatabaseSettings(url=SecretStr("postgresql://u:p@h/d")).resolve(tmp_path) == "postgresql://u:p@h/d"


def test_commits_reach_the_disk(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'new' / 'signet.db'}")
    with engine.connect() as connection:
        mode = connection.scalar(text("PRAGMA journal_mode"))
        synchronous = connection.scalar(text("PRAGMA synchronous"))
    engine.dispose()

    assert (mode, synchronous) == ("wal", 2)  # 2 is FULL


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'signet.db'}")
    ledger.start()
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    ledger.stop()

    assert modes == {"signet.db": 0o600, "signet.db-wal": 0o600, "signet.db-shm": 0o600}


def test_opening_the_file_again_leaves_this_process_its_locks(tmp_path: Path) -> None:
    """Without them another process that closes the file takes itself for the last, and deletes the log in use."""
    file = tmp_path / "signet.db"
    engine = open_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE rows (n INTEGER)"))
    open_engine(f"sqlite:///{file}").dispose()
    look = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('select count(*) from rows').fetchone())"

    seen = []
    for _ in range(2):
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO rows VALUES (1)"))
        done = subprocess.run([sys.executable, "-c", look, str(file)], capture_output=True, text=True, check=True)
        seen.append(done.stdout.strip())
    engine.dispose()

    assert seen == ["1", "2"]


def test_tables_are_made_once_by_processes_that_start_together(tmp_path: Path) -> None:
    program = "import sys; from serving.ledger import Ledger; l = Ledger(sys.argv[1]); l.start(); l.stop()"
    url = f"sqlite:///{tmp_path / 'signet.db'}"

    processes = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(4)]

    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        pytest.param("nonsense", "not a database URL", id="no URL"),
        pytest.param("oracle+absent://h/d", "driver is missing", id="no driver"),
        pytest.param("sqlite:////proc/none/signet.db", "cannot create the database /proc/none", id="no folder"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line(url: str, says: str) -> None:
    with pytest.raises(DatabaseError, match=says) as raised:
        Ledger(url).start()

    assert "\n" not in str(raised.value)
