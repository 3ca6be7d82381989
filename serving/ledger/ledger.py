"""Group commit: many requests wait for one transaction, written by one thread.

The event loop gathers entries (`commit_queue`), the thread here links and writes them (`writer`). While the database
cannot take them they are refused, or spilled to the local journal (`journal`) and replayed when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.database import DatabaseError, Migrate, SchemaCheck, open_engine
from serving.database.sqlite import Checkpointer
from serving.ledger.anchor import Head, grown_heads, head_of_event
from serving.ledger.audit import Entry, audit_record
from serving.ledger.commit_queue import NO_FAILURES, Batch, CommitQueue, Failures
from serving.ledger.journal import Journal, JournalUnavailable
from serving.ledger.record import UsageRecord
from serving.ledger.rollup import Rollup
from serving.ledger.settings import LedgerSettings
from serving.ledger.verify import ANCHOR_ACTION
from serving.ledger.writer import LedgerUnavailable, RecordRefused, RecordWriter

logger = logging.getLogger(__name__)

# How often a database that is gone is tried, and what waits for it replayed.
RETRY_INTERVAL_S = 0.5


class Ledger:
    """The durable record of requests. `start`, `commit` for each answer, `stop`; not restartable."""

    LIVE = ("ledger",)
    """Settings that `apply` takes over."""

    def __init__(
        self,
        url: str,
        settings: LedgerSettings | None = None,
        spill_folder: Path | None = None,
        migrate: Migrate = "start",
    ) -> None:
        """`spill_folder` holds the journal; needed to spill, and to replay what an earlier process spilled."""
        self._settings = settings or LedgerSettings()
        self._engine = open_engine(url, self._settings.busy_timeout_s)
        self._schema = SchemaCheck(self._engine, migrate)
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._writer = RecordWriter(self._engine)
        self._journal = Journal(spill_folder, self._settings.spill_max_bytes) if spill_folder else None
        self._checkpointer = Checkpointer(self._engine)
        self._rollup = Rollup(self._engine, lambda: self._schema.passed)
        self._thread = threading.Thread(target=self._run, name="signet-ledger", daemon=True)
        self._lock = threading.Lock()
        self._accepting = False
        self._commit_queues: list[CommitQueue] = []
        self._commit_queue: CommitQueue | None = None
        self._up = True
        self._down_because = ""
        self._retry_at = 0.0
        self._anchored: dict[str, tuple[int, str]] = {}
        self.num_spilled = 0
        """Records written to the journal since the start."""
        self.on_commit: Callable[[float, int], None] = lambda _seconds, _num_records: None
        """Called from the writer's thread after each transaction, with its seconds and records."""

    def start(self, wait: bool = False) -> None:
        """Bring the tables up to date and start the writer.

        With `wait`, a database that is away or not upgraded yet is an outage like any later one.

        Raises:
            DatabaseError: the database cannot be used.
        """
        try:
            self._schema.ensure()
            self._writer.probe()
        except LedgerUnavailable as error:
            raise DatabaseError(str(error)) from error
        except DatabaseError as error:
            if not (wait and self._schema.may_wait(error)):
                raise
            self._went_down(str(error))
        if self._journal is not None:
            self._journal.adopt()
        self._accepting = True
        self._thread.start()
        self._checkpointer.start()
        self._rollup.start()

    def stop(self) -> None:
        """Write what is waiting, then close. Later commits fail. Blocks until it is done."""
        with self._lock:
            started, self._accepting = self._accepting, False
        if started:
            for commit_queue in self._commit_queues:
                commit_queue.flush()
            self._queue.put(None)
            self._join()
            self._checkpointer.stop()
            self._rollup.stop()
        self._engine.dispose()

    def apply(self, settings: LedgerSettings) -> None:
        """Take over other settings while running.

        Raises:
            ValueError: one needs a restart; nothing is changed.
        """
        if settings.busy_timeout_s != self._settings.busy_timeout_s:
            raise ValueError("changing ledger.busy_timeout_s needs a restart")
        self._settings = settings
        if self._journal is not None:
            self._journal.max_bytes = settings.spill_max_bytes
        for commit_queue in self._commit_queues:
            commit_queue.settings = settings

    @property
    def settings(self) -> LedgerSettings:
        """Those in force."""
        return self._settings

    @property
    def pending(self) -> int:
        """Records that wait for the disk."""
        return sum(commit_queue.pending for commit_queue in self._commit_queues)

    @property
    def spilled(self) -> int:
        """Records that are in the journal and not yet in the database."""
        return self._journal.waiting if self._journal is not None else 0

    @property
    def schema_mismatch(self) -> bool:
        """Whether the database was reached and its schema does not fit this version."""
        return self._schema.mismatch

    @property
    def up(self) -> bool:
        """Whether the database took what it was last given."""
        return self._up

    async def commit(self, record: UsageRecord) -> None:
        """Return when `record` is durable. A cancelled wait does not take the record back.

        Raises:
            LedgerUnavailable: it could not be written: database gone, locked, full or hanging, and the journal
                not in use or full; ledger stopped; too many waiting. `RecordRefused`, one of these: the same
                request id is already there.
        """
        await self._add(record)

    async def audit(self, actor: str, action: str, subject: str, details: Mapping[str, Any] | None = None) -> None:
        """Return when an administrative action is durable, chained with the requests.

        Raises:
            LedgerUnavailable: as `commit`.
        """
        await self._add(audit_record(actor, action, subject, details))

    async def anchor(self) -> Head | None:
        """Record the heads of the chains that grew since the last anchor, and give that record's own.

        The others are in earlier anchors of the same chain, which this one follows. None: it was spilled.

        Raises:
            LedgerUnavailable: as `commit`.
        """
        try:
            heads = await asyncio.to_thread(grown_heads, self._engine, self._anchored)
            record = audit_record("gateway", ANCHOR_ACTION, "", heads)
            await self._add(record)
            self._anchored |= heads
            return await asyncio.to_thread(head_of_event, self._engine, record.event_id)
        except DatabaseError as error:
            raise LedgerUnavailable(str(error)) from error

    def _add(self, entry: Entry) -> asyncio.Future[None]:
        if not self._accepting:
            raise LedgerUnavailable("the ledger is not running")
        commit_queue = self._commit_queue
        if commit_queue is None or commit_queue.loop is not asyncio.get_running_loop():
            commit_queue = self._commit_queue_of_this_loop()
        if commit_queue.pending >= self._settings.max_pending:
            raise LedgerUnavailable(f"{self._settings.max_pending} records already wait for the ledger's disk")
        return commit_queue.add(entry)

    def _commit_queue_of_this_loop(self) -> CommitQueue:
        """A gateway has one loop; tests and tools may use several."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._commit_queues = [
                commit_queue for commit_queue in self._commit_queues if not commit_queue.loop.is_closed()
            ]
            for commit_queue in self._commit_queues:
                if commit_queue.loop is loop:
                    break
            else:
                commit_queue = CommitQueue(self._settings, self._queue.put, self._spill, self._stalled)
                self._commit_queues.append(commit_queue)
            self._commit_queue = commit_queue
        return commit_queue

    def _run(self) -> None:
        while True:
            degraded = not self._up or self.spilled > 0
            try:
                batch = self._queue.get(timeout=RETRY_INTERVAL_S if degraded else None)
            except queue.Empty:
                self._recover()
                continue
            if batch is None:
                return
            self._settle(batch)
            if degraded:
                self._recover()

    def _join(self) -> None:
        """Wait for the writer, but not for ever: a disk or server may hang."""
        self._thread.join(2 * self._settings.commit_timeout_s)
        if self._thread.is_alive():
            self._writer.interrupt()
            self._thread.join(self._settings.commit_timeout_s)
        if self._thread.is_alive():
            logger.error("the ledger's database hangs: stopping without it")
            return
        self._writer.close()
        if self._journal is not None:
            self._journal.close()

    def _settle(self, batch: Batch) -> None:
        entries, size = batch.entries, self._settings.max_batch
        failures: dict[int, LedgerUnavailable] = {}
        for first in range(0, len(entries), size):
            if not batch.abandoned:
                failed = self._keep(entries[first : first + size])
                failures.update((first + index, error) for index, error in failed.items())
        batch.commit_queue.report(batch, failures)

    def _keep(self, entries: Sequence[Entry]) -> Failures:
        try:
            self._write(entries)
        except RecordRefused as error:
            if len(entries) == 1:
                return {0: error}
            # One unacceptable record must not fail its neighbours.
            alone = [self._keep([entry]) for entry in entries]
            return {index: failed[0] for index, failed in enumerate(alone) if failed}
        except LedgerUnavailable as error:
            if self._settings.when_unavailable == "spill":
                return self._spill(entries)
            return dict.fromkeys(range(len(entries)), error)
        return NO_FAILURES

    def _write(self, entries: Sequence[Entry]) -> None:
        """Raises what the writer raises, at once while the database was gone a moment ago."""
        unreachable = not (self._writer.reachable and self._schema.passed)
        if not self._up and unreachable and time.monotonic() < self._retry_at:
            raise LedgerUnavailable(self._down_because)
        started = time.perf_counter()
        try:
            self._ensure_schema()
            self._writer.write(entries)
        except RecordRefused:
            raise
        except LedgerUnavailable as error:
            self._went_down(str(error))
            raise
        self._came_up()
        self.on_commit(time.perf_counter() - started, len(entries))

    def _spill(self, entries: Sequence[Entry]) -> Failures:
        if self._journal is None:
            return dict.fromkeys(range(len(entries)), LedgerUnavailable("there is no folder for the journal"))
        try:
            self._journal.append(entries)
        except JournalUnavailable as error:
            both = LedgerUnavailable(f"{self._down_because}; {error}")
            logger.error("%d ledger records not written: %s", len(entries), both)
            return dict.fromkeys(range(len(entries)), both)
        self.num_spilled += len(entries)
        return NO_FAILURES

    def _recover(self) -> None:
        """Try the database again, and replay a batch of what waits for it; all of it when nobody else waits."""
        if time.monotonic() < self._retry_at:
            return
        try:
            if not self._up:
                self._ensure_schema()
                self._writer.probe()
                self._came_up()
            while self._replay_batch() and self._queue.empty():
                pass
        except LedgerUnavailable as error:
            self._went_down(str(error))

    def _replay_batch(self) -> bool:
        if self._journal is None or not (entries := self._journal.oldest(self._settings.max_batch)):
            return False
        self._replay(self._writer.missing(entries))
        self._journal.forget(entries)
        if not self._journal.waiting:
            self._journal.oldest(1)  # empties the file
            logger.info("all spilled ledger records have been replayed")
        return True

    def _replay(self, entries: list[Entry]) -> None:
        try:
            self._writer.write(entries)
        except RecordRefused as error:
            if len(entries) > 1:
                for entry in entries:
                    self._replay(self._writer.missing([entry]))
            else:
                assert self._journal is not None
                place = self._journal.set_aside(entries)
                logger.error("the database refuses a spilled record, which is kept in %s: %s", place, error)

    def _ensure_schema(self) -> None:
        try:
            self._schema.ensure()
        except DatabaseError as error:
            raise LedgerUnavailable(str(error)) from error

    def _went_down(self, reason: str) -> None:
        if self._up:
            logger.error("the ledger cannot be written (%s): %s", self._settings.when_unavailable, reason)
        self._up, self._down_because = False, reason
        self._retry_at = time.monotonic() + RETRY_INTERVAL_S

    def _came_up(self) -> None:
        if not self._up:
            logger.warning("the ledger can be written again; %d records wait in the journal", self.spilled)
        self._up = True

    def _stalled(self) -> None:
        self._up = False
        self._down_because = f"the ledger's database has not answered for {self._settings.commit_timeout_s:g} s"
        self._writer.interrupt()
