"""How processes on one database tell each other that tenants and keys changed: before the changing call returns.

On SQLite every process is on one machine and reads a note of 16 bytes in a file beside the database: looking at it
costs a request less than a microsecond. On PostgreSQL a change notifies all gateways that listen, and waits until
each has taken it over. Both only hasten what `Identity` also finds out by looking at the revision now and then.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, PoolProxiedConnection, text
from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger(__name__)

# What is written at a change: never twice the same, so that two changes at once need no lock.
_NOTE_BYTES = 16

_CHANNEL = "signet_identity"
# First of the two numbers of the advisory locks that listeners hold; the second is the revision they know.
_LOCK_CLASS = 0x5167_4964
_CONFIRM_TIMEOUT_S = 2.0
_CONFIRM_POLL_S = 0.003
# Longest wait in the driver, which does not notice that the process stops.
_LISTEN_S = 0.25

_BEHIND = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = :class AND objsubid = 2 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND objid < :revision"
)


class Changes(Protocol):
    """One process's end of it. A driver's or file's fault is none of the caller's: the revision tells in the end."""

    def pending(self) -> bool:
        """Whether something changed since `seen` was last called with what `note` gave. Never blocks."""

    def note(self) -> bytes:
        """What stands there now: to be read before the database is, and handed to `seen` after."""

    def seen(self, note: bytes) -> None: ...

    def notify(self, connection: Connection) -> None:
        """In a change's transaction, before it is committed."""

    def announce(self, revision: int) -> None:
        """After a change was committed, whose revision this is; returns when the others cannot miss it any more."""

    def wait(self, stopping: threading.Event, seconds: float, revision: int) -> None:
        """Until something changes, the process stops, or the time is over; `revision` is what is known so far."""

    def close(self) -> None: ...


def changes_of(engine: Engine) -> Changes:
    """The way for this kind of database."""
    if engine.dialect.name == "postgresql":
        return Notifications(engine)
    database = engine.url.database
    return SharedNote(None if not database or database == ":memory:" else Path(f"{database}-changes"))


class SharedNote:
    """A small file beside SQLite's, open in every process that uses the database; None: a database of one process."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._descriptor = -1
        self._inode = 0
        self._open()
        # What was written before is nothing new: whoever opens a database reads it afterwards.
        self._seen = self.note()

    def pending(self) -> bool:
        return self._descriptor >= 0 and self.note() != self._seen

    def note(self) -> bytes:
        try:
            return os.pread(self._descriptor, _NOTE_BYTES, 0)
        except OSError:  # closed, or never opened
            return b""

    def seen(self, note: bytes) -> None:
        self._seen = note

    def notify(self, connection: Connection) -> None:
        pass

    def announce(self, revision: int) -> None:
        self._open()
        if self._descriptor >= 0:
            with suppress(OSError):
                os.pwrite(self._descriptor, secrets.token_bytes(_NOTE_BYTES), 0)

    def wait(self, stopping: threading.Event, seconds: float, revision: int) -> None:
        stopping.wait(seconds)
        self._open()

    def close(self) -> None:
        descriptor, self._descriptor, self._file = self._descriptor, -1, None
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self) -> None:
        """Open the file, anew where it was replaced: who restores a backup may bring another one along."""
        if self._file is None:
            return
        try:
            if self._descriptor >= 0 and self._file.exists() and self._file.stat().st_ino == self._inode:
                return
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            logger.debug("changes of keys are found by polling only: %s", error)
            return
        self._inode = os.fstat(descriptor).st_ino
        if self._descriptor < 0:
            self._descriptor = descriptor
        else:  # in one step: another thread may be reading
            os.dup2(descriptor, self._descriptor, inheritable=False)
            os.close(descriptor)


class Notifications:
    """PostgreSQL's LISTEN and NOTIFY, confirmed by advisory locks.

    A listener holds a shared lock named after the revision that it knows, and a change waits until nobody holds one of
    an older revision. Locks go with their connection, so no change waits for a gateway that is gone; one that hangs
    holds it up for `_CONFIRM_TIMEOUT_S`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pooled: PoolProxiedConnection | None = None
        self._listening: Any = None  # psycopg's connection in it
        self._held = -1

    def pending(self) -> bool:
        return False

    def note(self) -> bytes:
        return b""

    def seen(self, note: bytes) -> None:
        pass

    def notify(self, connection: Connection) -> None:
        connection.execute(text(f"NOTIFY {_CHANNEL}"))

    def announce(self, revision: int) -> None:
        deadline = time.monotonic() + _CONFIRM_TIMEOUT_S
        try:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                while connection.scalar(_BEHIND, {"class": _LOCK_CLASS, "revision": revision}):
                    if time.monotonic() > deadline:
                        logger.warning("a gateway has not confirmed a change of keys after %g s", _CONFIRM_TIMEOUT_S)
                        return
                    time.sleep(_CONFIRM_POLL_S)
        except SQLAlchemyError:
            logger.debug("the database went away before gateways confirmed a change", exc_info=True)

    def wait(self, stopping: threading.Event, seconds: float, revision: int) -> None:
        try:
            if self._listening is None:
                self._listen()
                return  # look at once: what changed until now was not heard
            self._hold(revision)
            self._hear(stopping, seconds)
        except Exception:  # whatever the driver raises about a server that goes, or is not back yet
            logger.debug("changes of keys are found by polling until the database answers", exc_info=True)
            self.close()
            stopping.wait(seconds)

    def close(self) -> None:
        pooled, self._pooled, self._listening, self._held = self._pooled, None, None, -1
        if pooled is not None:
            pooled.close()

    def _listen(self) -> None:
        self._pooled = self._engine.raw_connection()
        driver = self._pooled.driver_connection
        self._pooled.detach()  # it is this thread's from now on
        assert driver is not None
        self._listening = driver
        self._listening.autocommit = True
        self._listening.execute(f"LISTEN {_CHANNEL}")

    def _hold(self, revision: int) -> None:
        if revision == self._held:
            return
        self._listening.execute("SELECT pg_advisory_lock_shared(%s, %s)", (_LOCK_CLASS, revision))
        if self._held >= 0:
            self._listening.execute("SELECT pg_advisory_unlock_shared(%s, %s)", (_LOCK_CLASS, self._held))
        self._held = revision

    def _hear(self, stopping: threading.Event, seconds: float) -> None:
        """Wait for a notification, the end of the process, or the end of the time."""
        deadline = time.monotonic() + seconds
        while not stopping.is_set() and (left := deadline - time.monotonic()) > 0:
            with closing(self._listening.notifies(timeout=min(left, _LISTEN_S), stop_after=1)) as notices:
                if next(notices, None) is not None:
                    return
