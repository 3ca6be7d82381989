"""Findings about real databases."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from loadtests.tools.services import Postgres
from serving.database import migrate, open_engine
from serving.database.schema import SCHEMA_VERSION
from serving.doctor.database import check_database
from serving.doctor.examine import examine
from serving.doctor.finding import check
from serving.identity import Budget, Identity
from serving.settings import Settings
from tests.serving.doctor.examined import said
from tests.support.running import free_port

Make = Callable[..., Settings]
NOT_SYNCED = ("warning", "the database's server runs with fsync off")


def test_a_sqlite_file_that_is_not_there_yet_is_no_problem_and_is_not_made(settings: Make) -> None:
    made = settings()

    assert said(check_database(made)) == []
    assert not made.home.exists()


def test_a_sound_database_is_no_problem(settings: Make) -> None:
    made = settings()
    migrated(made.database_url)

    assert said(check_database(made)) == []


def test_what_is_no_database(settings: Make) -> None:
    made = settings()
    made.home.mkdir()
    (made.home / "signet.db").write_text("hello, this is no database at all")

    [(severity, what)] = said(check_database(made))
    assert severity == "error"
    assert "file is not a database" in what


@pytest.mark.parametrize(("step", "severity"), [(1, "error"), (-1, "warning")])
def test_another_versions_schema(settings: Make, step: int, severity: str) -> None:
    made = settings()
    version = SCHEMA_VERSION + step
    migrated(made.database_url, f"UPDATE schema_version SET version = {version}, revision = {version}")

    [(found, what)] = said(check_database(made))
    assert found == severity
    assert what.startswith(f"the database has schema {version}")


def test_budgets_without_prices_and_no_administrator_left(settings: Make) -> None:
    made = settings()
    with closing(Identity(made.database_url)) as identity:
        key = identity.create_key("acme", admin=True)
        identity.create_key("acme")
        identity.set_budget(Budget("tenant", "acme", "month", 1))
        identity.revoke(key.id)

    assert said(check_database(made)) == [
        ("warning", "no administrator's key is valid: all are revoked or have expired"),
        ("error", "there are budgets, but `prices` is empty"),
    ]
    priced = settings(prices={"default": {"prompt_per_million": "1"}})
    assert [what for what in said(check_database(priced)) if "prices" in what[1]] == []


@pytest.mark.services
def test_a_sound_postgresql_but_for_its_missing_syncs(settings: Make, postgres: Postgres) -> None:
    made = settings(database={"url": postgres.url})
    migrated(postgres.url)

    assert said(check_database(made)) == [NOT_SYNCED]


@pytest.mark.services
def test_a_wrong_password_is_told_without_it(settings: Make, postgres: Postgres) -> None:
    made = settings(database={"url": postgres.url.replace("secret", "hunter2")})

    [(severity, what)] = said(check_database(made))
    assert severity == "error"
    assert "password authentication failed" in what
    assert "hunter2" not in what


@pytest.mark.services
def test_few_connections_are_left(settings: Make, postgres: Postgres) -> None:
    made = settings(database={"url": postgres.url})
    open_ones = [psycopg.connect(postgres.dsn) for _ in range(92)]
    try:
        whats = [what for _, what in said(check_database(made))]
    finally:
        for connection in open_ones:
            connection.close()

    assert [what for what in whats if what.endswith("of the database's 100 connections are in use")]


@pytest.mark.services
def test_a_database_that_hangs_is_told_in_time(settings: Make, postgres: Postgres) -> None:
    made = settings(database={"url": postgres.url})
    postgres.signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        [outcome] = examine([check("database", check_database, made)], timeout_s=2.0)
    finally:
        postgres.signal(signal.SIGCONT)

    assert [finding.what for finding in outcome.findings] == ["the check of database did not end within 2 s"]
    assert time.monotonic() - started < 5


@pytest.mark.services
def test_a_slow_way_to_the_database(settings: Make, postgres: Postgres) -> None:
    with slow_way(postgres.port, 0.15) as port:
        made = settings(database={"url": postgres.url.replace(str(postgres.port), str(port))})
        whats = [what for _, what in said(check_database(made))]

    assert [what for what in whats if what.endswith("ms for the smallest query")]


def migrated(url: str, *statements: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


@contextmanager
def slow_way(port: int, delay_s: float) -> Iterator[int]:
    """A port from which what comes is passed on later."""

    def carry(source: socket.socket, target: socket.socket, delay_s: float) -> None:
        try:
            while data := source.recv(65536):
                time.sleep(delay_s)
                target.sendall(data)
        except OSError:
            return
        finally:
            target.close()

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", port))
            for source, target, pause in ((client, server, delay_s), (server, client, 0.0)):
                threading.Thread(target=carry, args=(source, target, pause), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", free_port()))
    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
