"""Puts entries into the database, one transaction at a time, from the ledger's thread."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine, select

from serving.database import explain
from serving.ledger.audit import AuditRecord, Entry, audit
from serving.ledger.chain import Chain, Position, link, open_chain, stored_position
from serving.ledger.record import UsageRecord, requests
from serving.ledger.statements import statements_for

logger = logging.getLogger(__name__)

# A number too large, a lone surrogate, a value that SQLite cannot bind.
_UNFIT = (OverflowError, UnicodeError, sqlite3.InterfaceError)


class LedgerUnavailable(Exception):
    """The record is not durable and will not be; `str()` is one line."""


class RecordRefused(LedgerUnavailable):
    """The database works and refuses this one record: a repeated request id, or a value that does not fit."""


class RecordWriter:
    """Writes to one database and holds one chain there. Used by one thread; only `interrupt` is for others."""

    def __init__(self, engine: Engine, name: str = "") -> None:
        self._engine = engine
        self._name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._statements = statements_for(engine)
        self._connection: Any = None
        self.reachable = True
        """Whether the last attempt got as far as a connection."""
        self._chain: Chain | None = None
        self._position = Position(0, b"")
        # Where the chain is if the transaction whose end we did not hear of was committed.
        self._attempted: Position | None = None

    def write(self, entries: Sequence[Entry]) -> None:
        """Insert and commit. On an error nothing of the batch is kept, or it is not known whether it is.

        Raises:
            RecordRefused: one of the entries is unacceptable; nothing is kept.
            LedgerUnavailable: nothing can be written now.
        """
        try:
            chain = self._connect()
            rows, audits, position = link(chain, self._position, entries)
            self._attempted = position
            self._statements.write(self._connection, rows, audits, chain, position)
        except Exception as error:  # whatever the driver raises, its waiters hear of it
            raise self._failure(error) from error
        self._position, self._attempted = position, None

    def missing(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those of `entries` that the database does not have yet, each once.

        Raises:
            LedgerUnavailable: it cannot be asked now.
        """
        by_id = {entry_id(entry): entry for entry in entries}
        try:
            self._connect()
            with self._engine.connect() as connection:
                for column, kind in ((requests.c.request_id, UsageRecord), (audit.c.event_id, AuditRecord)):
                    names = [name for name, entry in by_id.items() if isinstance(entry, kind)]
                    for written in connection.scalars(select(column).where(column.in_(names))).all() if names else ():
                        del by_id[written]
        except Exception as error:
            raise self._failure(error) from error
        return list(by_id.values())

    def probe(self) -> None:
        """Return when the database takes writes.

        Raises:
            LedgerUnavailable: it does not.
        """
        self.write([])

    @property
    def head(self) -> tuple[str, int, bytes]:
        """The chain's name, its last record's number and hash."""
        assert self._chain is not None
        return self._chain.name, *self._position

    def interrupt(self) -> None:
        """From another thread: end a wait for a server that hangs. A local file's sync cannot be ended."""
        connection = self._connection
        if connection is None or self._engine.dialect.name == "sqlite":
            return
        try:
            wire = socket.socket(fileno=os.dup(connection.driver_connection.fileno()))
            with wire:
                wire.shutdown(socket.SHUT_RDWR)
        except Exception:  # it may be closed this very moment
            logger.debug("the ledger's connection was gone already", exc_info=True)

    def close(self) -> None:
        """Return the connection."""
        if self._connection is None:
            return
        with suppress(Exception):  # a broken connection may fail in any way, and the pool notices
            # The pool lends it again, to those who expect transactions.
            if self._engine.dialect.name != "sqlite":
                self._connection.driver_connection.autocommit = False
        self._connection.close()
        self._connection = None

    def _connect(self) -> Chain:
        self.reachable = self._connection is not None or self._engine.dialect.name == "sqlite"
        if self._chain is not None and self._attempted is not None:
            self._settle_doubt(self._chain)
        if self._chain is None:
            self._chain, self._position = open_chain(self._engine, self._name)
        if self._connection is None:
            self._connection = self._engine.raw_connection()
            if self._engine.dialect.name != "sqlite":
                self._connection.driver_connection.autocommit = True
            self.reachable = True
        return self._chain

    def _settle_doubt(self, chain: Chain) -> None:
        """A transaction ended in an error: was it committed? The chain's head in the database says."""
        stored = stored_position(self._engine, chain)
        if stored is not None and stored == self._attempted:
            self._position = stored
        elif stored != self._position:
            logger.error("the ledger's chain %s is not where this process left it: beginning another", chain.name)
            self._chain = None
        self._attempted = None

    def _failure(self, error: Exception) -> LedgerUnavailable:
        driver: Any = self._engine.dialect.loaded_dbapi
        refused = isinstance(error, (driver.IntegrityError, driver.DataError, *_UNFIT))
        self._roll_back(keep=refused)
        if refused:
            self._attempted = None
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


def entry_id(entry: Entry) -> str:
    """What is unique in its table."""
    return entry.request_id if isinstance(entry, UsageRecord) else entry.event_id
