"""The event loop's side of the ledger: gathers entries, hands them over a batch at a time, wakes who waits.

Only one batch is on its way. While it is, the next one gathers: so the number of transactions adapts to the load by
itself, and a request costs no lock, no system call and no wake-up of its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from serving.ledger.audit import Entry
from serving.ledger.settings import LedgerSettings
from serving.ledger.writer import LedgerUnavailable

logger = logging.getLogger(__name__)

Failures = Mapping[int, LedgerUnavailable]
"""Position in the batch to what went wrong; empty: all are durable."""
NO_FAILURES: Failures = {}
_FLUSH_TIMEOUT_S = 5.0


class Waiting(NamedTuple):
    entry: Entry
    future: asyncio.Future[None]


class Batch:
    """Entries on their way to the writer's thread and back."""

    def __init__(self, commit_queue: CommitQueue, waiting: list[Waiting]) -> None:
        self.commit_queue = commit_queue
        self.waiting = waiting
        self.abandoned = False
        """Its waiters have been answered without the writer."""

    @property
    def entries(self) -> list[Entry]:
        return [item.entry for item in self.waiting]


class CommitQueue:
    """What one event loop sends to the ledger. All methods but `report` and `flush` run on that loop."""

    def __init__(
        self,
        settings: LedgerSettings,
        submit: Callable[[Batch], None],
        spill: Callable[[list[Entry]], Failures],
        stalled: Callable[[], None],
    ) -> None:
        """`submit` gives a batch to the writer; `spill` blocks; `stalled` hears that the writer hangs."""
        self.loop = asyncio.get_running_loop()
        self.settings = settings
        self._submit = submit
        self._spill = spill
        self._when_stalled = stalled
        self._gathered: list[Waiting] = []
        self._busy = False
        self._current: Batch | None = None
        self._hung: Batch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._spiller: ThreadPoolExecutor | None = None

    @property
    def pending(self) -> int:
        """Entries that wait."""
        return len(self._gathered) + (len(self._current.waiting) if self._current is not None else 0)

    def add(self, entry: Entry) -> asyncio.Future[None]:
        """A future that is done when `entry` is durable."""
        future: asyncio.Future[None] = self.loop.create_future()
        self._gathered.append(Waiting(entry, future))
        if not self._busy:
            self._busy = True
            # At the end of this turn of the loop, with all that it brings.
            self.loop.call_soon(self._hand_over)
        return future

    def report(self, batch: Batch, failures: Failures) -> None:
        """From the writer's thread: the batch is done."""
        try:
            self.loop.call_soon_threadsafe(self._written, batch, failures)
        except RuntimeError:  # the loop is closed: nobody waits any more
            logger.debug("%d ledger waiters are gone", len(batch.waiting))

    def flush(self) -> None:
        """From any thread, when no entry comes in any more: hand over what was gathered."""
        if not self.loop.is_running() or asyncio._get_running_loop() is self.loop:
            self._flush()
            return
        done = threading.Event()
        try:
            self.loop.call_soon_threadsafe(self._flush)
            self.loop.call_soon_threadsafe(done.set)
        except RuntimeError:  # closed meanwhile
            return
        done.wait(_FLUSH_TIMEOUT_S)

    def _flush(self) -> None:
        if self._gathered:
            waiting, self._gathered = self._gathered, []
            self._submit(Batch(self, waiting))

    def _hand_over(self) -> None:
        if not self._gathered:
            self._busy = False
            return
        waiting, self._gathered = self._gathered, []
        batch = self._current = Batch(self, waiting)
        if self._hung is not None:
            self._settle_without_writer(batch)
            return
        self._timer = self.loop.call_later(self.settings.commit_timeout_s, self._overdue, batch)
        self._submit(batch)

    def _written(self, batch: Batch, failures: Failures) -> None:
        if batch is self._hung:
            self._hung = None
            return
        _resolve(batch.waiting, failures)
        if batch is self._current:  # not one that stop() flushed
            self._start_next(batch)

    def _start_next(self, done: Batch) -> None:
        self._current = None
        if self._timer is not None:
            gathered_since = self._timer.when() - self.settings.commit_timeout_s
            self._timer.cancel()
            self._timer = None
            rest = self.settings.gather_s - (self.loop.time() - gathered_since)
            # A lone client's next record is not made to wait: it would gather nothing.
            if rest > 0 and len(done.waiting) > 1:
                self.loop.call_later(rest, self._hand_over)
                return
        self._hand_over()

    def _overdue(self, batch: Batch) -> None:
        self._timer = None
        self._hung = batch
        batch.abandoned = True
        logger.error("the ledger's database has not answered for %g s", self.settings.commit_timeout_s)
        self._when_stalled()
        self._settle_without_writer(batch)

    def _settle_without_writer(self, batch: Batch) -> None:
        """The writer hangs: refuse the batch, or spill it from another thread."""
        if self.settings.when_unavailable == "refuse":
            message = f"the ledger's database has not answered for {self.settings.commit_timeout_s:g} s"
            _resolve(batch.waiting, dict.fromkeys(range(len(batch.waiting)), LedgerUnavailable(message)))
            self._start_next(batch)
            return
        self._spiller = self._spiller or ThreadPoolExecutor(1, "signet-ledger-spill")
        spilling = self.loop.run_in_executor(self._spiller, self._spill, batch.entries)
        spilling.add_done_callback(lambda done: self._spilled(batch, done.result()))

    def _spilled(self, batch: Batch, failures: Failures) -> None:
        _resolve(batch.waiting, failures)
        self._start_next(batch)


def _resolve(waiting: list[Waiting], failures: Failures) -> None:
    for index, (_, future) in enumerate(waiting):
        if future.done():  # its request was cancelled
            continue
        error = failures.get(index) if failures else None
        if error is None:
            future.set_result(None)
        else:
            # A fresh exception for each: a shared one would gather every waiter's traceback.
            future.set_exception(type(error)(str(error)))
