"""Reads see one moment, end in time, change nothing, and go to the replica where there is one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from loadtests.tools.services import Postgres
from serving.database import DatabaseError, Reader, ReadTimeout, migrate, open_engine
from serving.ledger import Ledger
from serving.ledger.cli import ledger
from serving.settings import load_settings
from tests.support.ledgers import a_record

# More rows than either database counts in the time that the tests allow.
ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT count(*) FROM generate_series(1, 10000000000) AS n",
}


def prepare(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE things (n INTEGER)"))
        connection.execute(text("INSERT INTO things VALUES (1)"))
    engine.dispose()


def test_a_read_that_takes_too_long_is_given_up_and_the_next_one_is_not(url: str) -> None:
    prepare(url)
    reader = Reader(url, 0.2)
    started = time.monotonic()

    with pytest.raises(ReadTimeout, match=r"for longer than 0\.2 s"), reader.connect() as connection:
        connection.scalar(text(ENDLESS[connection.dialect.name]))
    assert time.monotonic() - started < 10
    with reader.connect() as connection:
        assert connection.scalar(text("SELECT n FROM things")) == 1
    reader.close()


def test_all_statements_of_a_read_see_the_same_moment(url: str) -> None:
    prepare(url)
    reader = Reader(url)
    writer = open_engine(url)

    with reader.connect() as connection:
        before = connection.scalar(text("SELECT count(*) FROM things"))
        with writer.begin() as writing:
            writing.execute(text("INSERT INTO things VALUES (2)"))
        meanwhile = connection.scalar(text("SELECT count(*) FROM things"))
    with reader.connect() as connection:
        after = connection.scalar(text("SELECT count(*) FROM things"))
    reader.close()
    writer.dispose()

    assert (before, meanwhile, after) == (1, 1, 2)


@pytest.mark.services
def test_a_read_changes_nothing(postgres: Postgres) -> None:
    prepare(postgres.url)
    reader = Reader(postgres.url)

    with pytest.raises(DatabaseError, match="read-only"), reader.connect() as connection:
        connection.execute(text("INSERT INTO things VALUES (2)"))
    reader.close()


@pytest.mark.parametrize("replica", [False, True])
def test_reports_are_read_from_the_replica(replica: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGNET_HOME", str(tmp_path))
    copy = f"sqlite:///{tmp_path / 'copy.db'}"
    asyncio.run(write_one(copy, "in_the_copy"))
    asyncio.run(write_one(f"sqlite:///{tmp_path / 'signet.db'}", "in_the_primary"))
    if replica:
        monkeypatch.setenv("SIGNET_DATABASE__READ_URL", copy)

    shown = CliRunner().invoke(ledger, ["usage", "--json"], obj=load_settings, catch_exceptions=False)
    exported = CliRunner().invoke(ledger, ["export", "-"], obj=load_settings, catch_exceptions=False)

    for output in (shown.stdout, exported.stdout):
        assert ("in_the_copy" in output, "in_the_primary" in output) == (replica, not replica)


async def write_one(url: str, tenant: str) -> None:
    made = Ledger(url)
    made.start()
    await made.commit(a_record(tenant=tenant))
    made.stop()
