"""Group commit: many requests wait for one transaction, written by one thread.

The event loop appends a record and awaits a future. The writer thread takes everything that is waiting,
writes it in one transaction, and wakes the loop once for the whole batch. While a transaction is being synced
the next batch gathers, so the number of syncs adapts to the load by itself: no timer, no added delay for a
lone request.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from serving.ledger.checkpointer import Checkpointer
from serving.ledger.database import create_tables, open_engine
from serving.ledger.record import UsageRecord, requests
from serving.ledger.settings import LedgerSettings
from serving.ledger.writer import LedgerUnavailable, RecordRefused, RecordWriter

logger = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    record: UsageRecord
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]


class Ledger:
    """The durable record of requests. `start`, `commit` for each answer, `stop`; not restartable."""

    def __init__(self, url: str, settings: LedgerSettings | None = None) -> None:
        self._settings = settings or LedgerSettings()
        self._engine = open_engine(url, self._settings.busy_timeout_s)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._writer = RecordWriter(self._engine)
        self._checkpointer = Checkpointer(self._engine)
        self._thread = threading.Thread(target=self._run, name="signet-ledger", daemon=True)
        self._lock = threading.Lock()
        self._accepting = False

    def start(self) -> None:
        """Create the table when missing and start the writer.

        Raises:
            DatabaseError: the database cannot be opened.
        """
        create_tables(self._engine, requests)
        self._accepting = True
        self._thread.start()
        self._checkpointer.start()

    def stop(self) -> None:
        """Write what is waiting, then close. Later commits fail. Blocks until it is done."""
        with self._lock:
            started, self._accepting = self._accepting, False
            if started:
                self._queue.put(None)
        if started:
            self._thread.join()
            self._checkpointer.stop()
            self._writer.close()
        self._engine.dispose()

    @property
    def pending(self) -> int:
        """Records that wait for the disk."""
        return self._queue.qsize()

    async def commit(self, record: UsageRecord) -> None:
        """Return when `record` is durable. A cancelled wait does not take the record back.

        Raises:
            LedgerUnavailable: it could not be written: database gone, locked or full; ledger stopped; too
                many waiting. `RecordRefused`, one of these: the same request id is already there.
        """
        if self._queue.qsize() >= self._settings.max_pending:
            raise LedgerUnavailable(f"{self._settings.max_pending} records already wait for the ledger's disk")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        # The lock orders this against stop(): nothing is queued behind the end mark and then forgotten.
        with self._lock:
            if not self._accepting:
                raise LedgerUnavailable("the ledger is not running")
            self._queue.put(_Waiting(record, loop, future))
        await future

    def _run(self) -> None:
        stopping = False
        while not stopping:
            batch, stopping = self._next_batch()
            if batch:
                self._write(batch)

    def _next_batch(self) -> tuple[list[_Waiting], bool]:
        """Everything that waits now (blocks for the first), and whether the end mark was reached."""
        batch: list[_Waiting] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) >= self._settings.max_batch:
                return batch, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _write(self, batch: list[_Waiting]) -> None:
        try:
            self._writer.write([waiting.record for waiting in batch])
        except RecordRefused as error:
            if len(batch) == 1:
                _wake(batch, error)
                return
            # One unacceptable record must not fail its neighbours.
            for waiting in batch:
                self._write([waiting])
        except LedgerUnavailable as error:
            logger.error("%d ledger records not written: %s", len(batch), error)
            _wake(batch, error)
        else:
            _wake(batch, None)


def _wake(batch: Iterable[_Waiting], error: LedgerUnavailable | None) -> None:
    """Resolve the futures of one batch: one wake-up for each event loop (the gateway has one)."""
    for loop, waiting in groupby(batch, key=lambda item: item.loop):
        futures = [item.future for item in waiting]
        try:
            loop.call_soon_threadsafe(_resolve, futures, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            logger.debug("%d ledger waiters are gone", len(futures))


def _resolve(futures: list[asyncio.Future[None]], error: LedgerUnavailable | None) -> None:
    for future in futures:
        if future.done():  # its request was cancelled
            continue
        if error is None:
            future.set_result(None)
        else:
            # A fresh exception for each: a shared one would gather every waiter's traceback.
            future.set_exception(type(error)(str(error)))
