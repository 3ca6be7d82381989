"""The database of tenants, keys and the ledger: reached, fitting, quick, with room; and what it says of itself."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError

from serving.database import DatabaseError, Migrate, explained, open_engine
from serving.database.schema import SCHEMA_VERSION, schema_of
from serving.doctor.clock import check_clock
from serving.doctor.finding import Finding, NotChecked, error, warning
from serving.doctor.volume import check_volume
from serving.identity.schema import api_keys, budgets
from serving.settings import Settings

# Each request waits for a commit, which is one round trip and a write.
_SLOW_S = 0.1
_FEW_CONNECTIONS = 0.9
_UNUSABLE = "no key is known and no record can be written, so no answer leaves the gateway"


def check_database(settings: Settings) -> Iterator[Finding]:
    """`settings.database`. A SQLite file that is not there yet is made at the start."""
    file = sqlite_file(settings.database_url)
    if file is not None and not os.path.exists(file):
        return  # made at the start, or its folder is closed, which is said of the home
    if file is not None:
        yield from check_volume(file.parent, "the database")
        if not os.access(file, os.R_OK | os.W_OK, effective_ids=True):
            yield error(
                f"the database {file} may not be read and written by this user (uid {os.geteuid()})",
                _UNUSABLE,
                "correct the file's owner, or run as the user who started Signet before",
            )
            return
    try:
        with _connected(settings) as connection:
            yield from _schema(connection, settings.database.migrate)
            yield from _speed(connection)
            if connection.dialect.name == "postgresql":
                yield from _postgres(connection)
            if _is_ours(connection):
                yield from _keys_and_budgets(connection, settings)
    except DatabaseError as reason:
        yield error(
            str(reason),
            _UNUSABLE,
            "start the database, or correct database.url (SIGNET_DATABASE__URL) and its password",
        )


def marks_by_default(settings: Settings) -> bool:
    """Whether a valid key asks for marks by itself.

    Raises:
        NotChecked: the database cannot say.
    """
    wanted = select(func.count()).where(*_valid(), api_keys.c.mark_default != "off")
    file = sqlite_file(settings.database_url)
    if file is not None and not os.path.exists(file):
        raise NotChecked("there are no keys yet that could want marks")
    try:
        with _connected(settings) as connection:
            if not _is_ours(connection):
                raise NotChecked("there are no keys yet that could want marks")
            return _count(connection, wanted) > 0
    except DatabaseError:
        raise NotChecked("the database cannot say which keys want marks") from None


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None for another kind."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return None
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    return Path(str(parsed.database)) if is_file else None


@contextmanager
def _connected(settings: Settings) -> Iterator[Connection]:
    """Raises DatabaseError."""
    engine: Engine = open_engine(settings.database_url, settings.ledger.busy_timeout_s)
    try:
        with explained(engine), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _is_ours(connection: Connection) -> bool:
    return inspect(connection).has_table(api_keys.name)


def _count(connection: Connection, query: Select[Any]) -> int:
    return int(connection.scalar(query) or 0)


def _valid() -> tuple[Any, Any]:
    expires = api_keys.c.expires_at
    return api_keys.c.revoked_at.is_(None), expires.is_(None) | (expires > time.time())


def _schema(connection: Connection, migrate: Migrate) -> Iterator[Finding]:
    schema = schema_of(connection)
    if not schema.revision and migrate == "start":
        return  # made by the first gateway
    if schema.is_ahead:
        yield error(
            f"the database has schema {schema.revision}, which needs a version of Signet that knows schema "
            f"{schema.min_reader}; this one knows {SCHEMA_VERSION}",
            "a gateway of this version does not start on it",
            "upgrade Signet here, or use the version that the other gateways have",
        )
    elif schema.is_behind and migrate == "start":
        yield warning(
            f"the database has schema {schema.revision}, older than {SCHEMA_VERSION}, which this version needs",
            "it is upgraded when the first gateway of this version starts, which then takes longer",
            "run `signet ledger upgrade` before, at a quiet time",
        )
    elif schema.is_behind:
        yield error(
            f"the database has schema {schema.revision}, older than {SCHEMA_VERSION}, which this version needs",
            "gateways take no request until it is upgraded, since database.migrate is never",
            "run `signet ledger upgrade`; in a cluster, look why the chart's upgrade Job failed",
        )


def _speed(connection: Connection) -> Iterator[Finding]:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        connection.execute(text("SELECT 1"))
        seconds.append(time.perf_counter() - started)
    median_s = statistics.median(seconds)
    if median_s > _SLOW_S:
        yield warning(
            f"the database takes {median_s * 1000:.0f} ms for the smallest query",
            "every answer waits for its record, and so for at least one such round trip",
            "put database and gateways into one region; look at the server's load",
        )


def _postgres(connection: Connection) -> Iterator[Finding]:
    asked_at = time.time()
    their_time = connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
    yield from check_clock("the database", float(their_time or 0.0), asked_at, time.time())
    if connection.scalar(text("SELECT pg_is_in_recovery()")):
        yield error(
            "the database is a replica that can only be read",
            "no record can be written, so no answer leaves the gateway",
            "name the primary server in database.url",
        )
    for name in ("fsync", "full_page_writes"):
        if connection.scalar(text(f"SELECT current_setting('{name}')")) == "off":
            yield warning(
                f"the database's server runs with {name} off",
                "a power failure loses or damages records that gateways counted as durable",
                f"set {name} = on in postgresql.conf",
            )
    used, most = connection.execute(
        text("SELECT (SELECT count(*) FROM pg_stat_activity), current_setting('max_connections')::int")
    ).one()
    if used > _FEW_CONNECTIONS * most:
        yield warning(
            f"{used} of the database's {most} connections are in use",
            "gateways that start or scale out get none and do not become ready",
            "raise max_connections, or put PgBouncer in between",
        )


def _keys_and_budgets(connection: Connection, settings: Settings) -> Iterator[Finding]:
    keys = _count(connection, select(func.count()).select_from(api_keys))
    administrators = _count(connection, select(func.count()).where(*_valid(), api_keys.c.admin))
    if keys and not administrators and not any(grant.admin for grant in settings.identity.jwt.grants.values()):
        yield warning(
            "no administrator's key is valid: all are revoked or have expired",
            "nobody can use the admin API",
            "make one with `signet keys create --tenant NAME --admin`",
        )
    if not settings.prices and _count(connection, select(func.count()).select_from(budgets)):
        yield error(
            "there are budgets, but `prices` is empty",
            "every request costs nothing, so no budget is ever spent",
            "set `prices`; its entry `default` holds for every model",
        )
