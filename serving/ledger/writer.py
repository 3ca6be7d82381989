"""Puts records into the `requests` table, one transaction at a time, from the ledger's thread."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from sqlalchemy import Engine, insert

from serving.ledger.database import explain
from serving.ledger.record import UsageRecord, requests

logger = logging.getLogger(__name__)


class LedgerUnavailable(Exception):
    """The record is not durable and will not be; `str()` is one line."""


class RecordRefused(LedgerUnavailable):
    """The database works and refuses this one record: a repeated request id, or a value that does not fit."""


class RecordWriter:
    """Writes records through the driver, with SQL that SQLAlchemy compiled once for the database in use.

    Core's own `execute` takes about 0.1 ms of CPU more for each transaction (measured with one record in each),
    and takes it from the event loop, through the interpreter lock.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        fields = UsageRecord.__struct_fields__
        compiled = insert(requests).compile(dialect=engine.dialect, column_keys=list(fields))
        self._sql = str(compiled)
        positional = getattr(compiled, "positiontup", None) if engine.dialect.positional else None
        assert positional is None or tuple(positional) == fields, "struct and table stand in different orders"
        self._as_row: Any = msgspec.structs.astuple if positional else msgspec.structs.asdict
        self._connection: Any = None

    def write(self, records: list[UsageRecord]) -> None:
        """Insert and commit. On an error nothing of the batch is kept.

        Raises:
            RecordRefused: one of the records is unacceptable.
            LedgerUnavailable: nothing can be written now.
        """
        try:
            if self._connection is None:
                self._connection = self._engine.raw_connection()
            cursor = self._connection.cursor()
            cursor.executemany(self._sql, list(map(self._as_row, records)))
            self._connection.commit()
            cursor.close()
        except Exception as error:  # whatever the driver raises, its waiters hear of it
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> LedgerUnavailable:
        driver = self._engine.dialect.loaded_dbapi
        refused = isinstance(error, (driver.IntegrityError, driver.DataError, driver.InterfaceError, OverflowError))
        self._roll_back(keep=refused)
        if refused:
            return RecordRefused(f"the ledger refuses this record: {type(error).__name__}")
        return LedgerUnavailable(explain(self._engine, error))

    def _roll_back(self, keep: bool) -> None:
        """Undo; unless `keep`, give the connection up, so that the next batch opens a fresh one."""
        if self._connection is None:
            return
        try:
            self._connection.rollback()
            if keep:
                return
            self._connection.invalidate()
        except Exception:  # a broken connection may fail in any way
            logger.debug("could not roll back the ledger's connection", exc_info=True)
        self._connection = None

    def close(self) -> None:
        """Return the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
