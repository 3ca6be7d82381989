"""Reads for people and programs that ask: from one snapshot, bounded in time, from a replica where there is one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from serving.database.engine import DatabaseError, explained, open_engine

# PostgreSQL's code of a statement that was cancelled, here by its timeout.
_CANCELLED = "57014"
# SQLite's steps between two looks at the clock: about a millisecond.
_STEPS = 20_000


class ReadTimeout(DatabaseError):
    """A read took longer than it may; `str()` is one line."""


class Reader:
    """One database, read only. `connect` gives a connection whose statements all see the same moment."""

    def __init__(self, url: str, timeout_s: float | None = None) -> None:
        """`timeout_s` bounds each statement; None: it may take for ever.

        Raises:
            DatabaseError: as `open_engine`.
        """
        self._engine = open_engine(url, pool_size=1)
        self._timeout_s = timeout_s

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Raises ReadTimeout or DatabaseError where a statement, or the connection, fails."""
        is_sqlite = self._engine.dialect.name == "sqlite"
        # SQLite's driver would begin no transaction before the first change.
        isolation = "AUTOCOMMIT" if is_sqlite else "REPEATABLE READ"
        bounded = self._bounded_sqlite if is_sqlite else self._bounded_postgres
        with explained(self._engine):
            try:
                with (
                    self._engine.connect().execution_options(isolation_level=isolation) as connection,
                    bounded(connection),
                ):
                    yield connection
            except SQLAlchemyError as error:
                if _is_timeout(error):
                    raise ReadTimeout(f"the ledger was read for longer than {self._timeout_s:g} s") from error
                raise

    def close(self) -> None:
        """Release the database."""
        self._engine.dispose()

    @contextmanager
    def _bounded_sqlite(self, connection: Connection) -> Iterator[None]:
        driver: Any = connection.connection.driver_connection
        if self._timeout_s is not None:
            deadline = time.monotonic() + self._timeout_s
            driver.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        connection.exec_driver_sql("BEGIN")
        try:
            yield
        finally:
            driver.set_progress_handler(None, 0)
            connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def _bounded_postgres(self, connection: Connection) -> Iterator[None]:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        if self._timeout_s is not None:
            # LOCAL: a pooler in between hands the session to others.
            connection.execute(text(f"SET LOCAL statement_timeout = {max(1, int(self._timeout_s * 1000))}"))
        yield


def _is_timeout(error: SQLAlchemyError) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else None
    return getattr(cause, "sqlstate", None) == _CANCELLED or str(cause) == "interrupted"
