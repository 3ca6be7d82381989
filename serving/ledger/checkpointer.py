"""Moves SQLite's write-ahead log into the database file, off the writer's path."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger(__name__)

# Often enough that the log stays a few MB at thousands of records a second.
CHECKPOINT_INTERVAL_S = 1.0


class Checkpointer:
    """A thread that checkpoints the log every second; does nothing on other databases.

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
