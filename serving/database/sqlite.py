"""SQLite in one file, the default: how it is made, made durable, and kept from pausing commits."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger(__name__)

# A commit that finds the log longer than this (64 MB) empties it; normally the checkpointer did before.
WAL_PAGES = 16_384
# Often enough that the log stays a few MB at thousands of records a second.
CHECKPOINT_INTERVAL_S = 1.0


def make_file(file: Path) -> None:
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


def pragmas(busy_timeout_s: float) -> Callable[[DBAPIConnection, object], None]:
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
