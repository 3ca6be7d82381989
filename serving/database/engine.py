"""One SQLAlchemy engine for either database: SQLite in one file by default, PostgreSQL by its URL.

The tables and most statements elsewhere are plain SQLAlchemy Core, so a URL is enough to move.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, InterfaceError, NoSuchModuleError, OperationalError, SQLAlchemyError

from serving.database.sqlite import make_file, pragmas

# How long a statement waits for another process's write lock before it fails.
BUSY_TIMEOUT_S = 5.0
# A server that vanishes from the network is given up after seconds, not after the kernel's quarter of an hour.
_POSTGRES_OPTIONS: dict[str, Any] = {
    "pool_pre_ping": True,
    "connect_args": {
        "application_name": "signet",
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    },
}

metadata = MetaData()


class DatabaseError(Exception):
    """The database cannot be opened or does not fit this version; `str()` is one line for the user."""


class DatabaseAway(DatabaseError):
    """The database's server cannot be reached now, and may be later."""


def open_engine(url: str, busy_timeout_s: float = BUSY_TIMEOUT_S, pool_size: int = 5) -> Engine:
    """An engine for `url`; makes a SQLite file and its folder. Does not connect yet.

    `pool_size`: connections that are kept for the next use; others may be open at the same time.

    Raises:
        DatabaseError: the URL is malformed, its driver is not installed, or the file cannot be made.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        postgres = parsed.get_backend_name() == "postgresql"
        options = _POSTGRES_OPTIONS if postgres else {}
        engine = create_engine(parsed, pool_size=pool_size, **options)
    except (NoSuchModuleError, ImportError) as error:
        raise DatabaseError(f"cannot use the configured database: its driver is missing ({error})") from error
    except ArgumentError as error:  # without the text: it may hold a password
        raise DatabaseError("cannot use the configured database: its address is not a database URL") from error
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise DatabaseError(
            f"cannot use the configured database: {engine.dialect.name} is neither PostgreSQL nor SQLite"
        )
    if engine.dialect.name == "postgresql":
        event.listen(engine, "connect", _demand_durability)
    if engine.dialect.name == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            try:
                make_file(Path(parsed.database))
            except OSError as error:
                raise DatabaseError(f"cannot create the database {parsed.database}: {error.strerror}") from error
        event.listen(engine, "connect", pragmas(busy_timeout_s))
    return engine


def _demand_durability(connection: DBAPIConnection, _record: object) -> None:
    """A server may be configured to answer a commit before it is on disk; for the ledger it must not."""
    cursor = connection.cursor()
    cursor.execute("SHOW synchronous_commit")
    if cursor.fetchone()[0] == "off":  # type: ignore[index]
        cursor.execute("SET synchronous_commit = on")
    cursor.close()
    connection.commit()


def explain(engine: Engine, error: SQLAlchemyError | Exception) -> str:
    """One line for the user: which database (password hidden) and what the driver said; no SQL, no values."""
    cause = getattr(error, "orig", None) or error
    reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    return f"the database {engine.url.render_as_string()} is not usable: {reason}"


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """What the driver raises inside is raised as DatabaseAway or DatabaseError."""
    try:
        yield
    except SQLAlchemyError as error:
        # A file that cannot be opened stays so until somebody does something about it.
        away = isinstance(error, OperationalError | InterfaceError) and engine.dialect.name != "sqlite"
        raise (DatabaseAway if away else DatabaseError)(explain(engine, error)) from error
