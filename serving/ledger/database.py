"""The database that identity and ledger share: its address, its engine, its version row.

SQLite in one file by default. Only this module knows that: the tables and statements elsewhere are plain
SQLAlchemy Core, so a PostgreSQL URL is enough to move.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr
from sqlalchemy import (
    Engine,
    MetaData,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

logger = logging.getLogger(__name__)

# How long a statement waits for another process's write lock before it fails.
BUSY_TIMEOUT_S = 5.0
# A commit that finds the log longer than this (64 MB) empties it; normally the checkpointer did before.
WAL_PAGES = 16_384
# Often enough that the log stays a few MB at thousands of records a second.
CHECKPOINT_INTERVAL_S = 1.0
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


class DatabaseSettings(BaseModel):
    """Where tenants, keys and the ledger are kept."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    url: SecretStr | None = None
    """SQLAlchemy URL, as `postgresql+psycopg://user:password@host/signet`; unset: SIGNET_HOME/signet.db."""

    def resolve(self, home: Path) -> str:
        """The URL to open."""
        return self.url.get_secret_value() if self.url else f"sqlite:///{home / 'signet.db'}"


def open_engine(url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """An engine for `url`; makes a SQLite file and its folder. Does not connect yet.

    Raises:
        DatabaseError: the URL is malformed, its driver is not installed, or the file cannot be made.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        postgres = parsed.get_backend_name() == "postgresql"
        engine = create_engine(parsed, **(_POSTGRES_OPTIONS if postgres else {}))
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
            _make_file(Path(parsed.database))
        event.listen(engine, "connect", _sqlite_pragmas(busy_timeout_s))
    return engine


def _make_file(file: Path) -> None:
    """An empty file that only its owner can read, before SQLite makes one that all can.

    A file that exists is not touched: closing any descriptor of it would drop the locks that this process's own
    SQLite connections hold (https://www.sqlite.org/howtocorrupt.html, section 2.2), and with them the log that
    another process then deletes.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise DatabaseError(f"cannot create the database {file}: {error.strerror}") from error


def _demand_durability(connection: DBAPIConnection, _record: object) -> None:
    """A server may be configured to answer a commit before it is on disk; for the ledger it must not."""
    cursor = connection.cursor()
    cursor.execute("SHOW synchronous_commit")
    if cursor.fetchone()[0] == "off":  # type: ignore[index]
        cursor.execute("SET synchronous_commit = on")
    cursor.close()
    connection.commit()


def _sqlite_pragmas(busy_timeout_s: float) -> Callable[[DBAPIConnection, object], None]:
    def set_pragmas(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(busy_timeout_s * 1000)}")
        # Readers (the drift worker, `signet keys list`) never block the writer, nor it them.
        cursor.execute("PRAGMA journal_mode=WAL")
        # NORMAL would lose the last commits when the machine loses power; FULL syncs the log at each commit.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    return set_pragmas


def explain(engine: Engine, error: SQLAlchemyError | Exception) -> str:
    """One line for the user: which database (password hidden) and what the driver said; no SQL, no values."""
    cause = getattr(error, "orig", None) or error
    reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    return f"the database {engine.url.render_as_string()} is not usable: {reason}"


class Checkpointer:
    """A thread that moves SQLite's write-ahead log into the file every second; does nothing on other databases.

    Left to itself SQLite checkpoints inside a commit, once in about 250 of them, and that commit then takes
    milliseconds: it is the ledger's p99. A passive checkpoint from a second connection blocks nobody. Under
    a load that never pauses it cannot finish; the writer's own threshold (`WAL_PAGES`) then bounds the log.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="signet-checkpoint", daemon=True)

    def start(self) -> None:
        if self._engine.dialect.name == "sqlite":
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(CHECKPOINT_INTERVAL_S):
            try:
                with self._engine.connect() as connection:
                    connection.execute(text("PRAGMA wal_checkpoint(PASSIVE)"))
            except SQLAlchemyError as error:
                logger.debug("checkpoint put off: %s", error)
