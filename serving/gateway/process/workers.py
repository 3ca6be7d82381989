"""Several worker processes behind one port: started together, replaced when one dies, stopped together.

Each worker has a listening socket of its own (SO_REUSEPORT) that the parent keeps open too: connections that wait in
a dead worker's socket are answered by its successor. The parent serves nothing, has no threads and no event loop, so it
can fork at any time.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

log = logging.getLogger(__name__)

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
# A worker that lived this long was healthy: the next failure starts from the shortest wait again.
_HEALTHY_S = 30.0
# After the drain a worker still has records to write; then it is killed.
_STOP_MARGIN_S = 10.0


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a worker process gets from its parent."""

    index: int
    count: int
    listener: socket.socket
    parent_gone: int
    """A pipe's read end: at its end of file the parent is dead, and the worker must stop."""
    report_ready: Callable[[], None]
    replaces: bool = False
    """Whether another worker died here before: the settings that the parent started with may be old."""


@dataclass(slots=True)
class _Worker:
    index: int
    listener: socket.socket
    pid: int = 0
    started: float = 0.0
    ready: bool = False
    failures: int = 0
    restart_at: float | None = None
    ready_pipe: int = -1
    exit_code: int = 0


class Workers:
    """The parent.

    Args:
        listeners: one bound socket for each worker.
        serve: runs one worker to its end, in the child; what it returns is the exit code.
        drain_timeout_s: how long a worker may take to let its answers finish.
        on_ready: called once, when every worker listens.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        serve: Callable[[WorkerContext], int],
        drain_timeout_s: float,
        on_ready: Callable[[], None],
    ) -> None:
        self._workers = [_Worker(index, listener) for index, listener in enumerate(listeners)]
        self._serve = serve
        self._drain_timeout_s = drain_timeout_s
        self._on_ready = on_ready
        self._announced = False
        # Whoever holds the write end is alive: the parent alone.
        self._parent_gone, self._parent_here = os.pipe()

    def run(self) -> int:
        """Until SIGTERM or SIGINT; SIGHUP goes on to every worker. Returns the exit code."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for worker in self._workers:
                self._start(worker, before)
            return self._watch(before)
        finally:
            self._stop()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _watch(self, mask: set[signal.Signals | int]) -> int:
        while True:
            received = signal.sigtimedwait(_SIGNALS, self._patience())
            number = received.si_signo if received is not None else 0
            if number in (signal.SIGTERM, signal.SIGINT):
                return 0
            if number == signal.SIGHUP:
                self._signal(signal.SIGHUP)
            for worker in self._reap():
                if not worker.ready and not self._announced and worker.exit_code > 0:
                    # It has said why; the others would fail the same way. (One that was killed is another matter.)
                    return worker.exit_code
                self._plan_restart(worker)
            self._note_ready()
            for worker in self._workers:
                if worker.restart_at is not None and time.monotonic() >= worker.restart_at:
                    self._start(worker, mask)

    def _patience(self) -> float:
        """Seconds until something may have to be done without a signal."""
        if not self._announced:
            return 0.05
        due = [worker.restart_at for worker in self._workers if worker.restart_at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else 3600.0

    def _start(self, worker: _Worker, mask: set[signal.Signals | int]) -> None:
        ready_read, ready_write = os.pipe()
        os.set_blocking(ready_read, False)
        pid = os.fork()
        if pid == 0:
            os.close(ready_read)
            self._become(worker, ready_write, mask)
        os.close(ready_write)
        worker.pid, worker.started, worker.ready, worker.restart_at = pid, time.monotonic(), False, None
        worker.ready_pipe = ready_read

    def _become(self, worker: _Worker, ready: int, mask: set[signal.Signals | int]) -> NoReturn:
        """In the child: serve, then leave without running anything of the parent's."""
        code = 1
        try:
            os.close(self._parent_here)
            for other in self._workers:
                if other is not worker:
                    other.listener.close()
            # A SIGHUP that comes before the worker heeds it would end it: it waits until the worker unblocks it.
            signal.pthread_sigmask(signal.SIG_SETMASK, {*mask, signal.SIGHUP})

            def report_ready() -> None:
                os.write(ready, b"\n")
                os.close(ready)

            context = WorkerContext(
                worker.index,
                len(self._workers),
                worker.listener,
                self._parent_gone,
                report_ready,
                replaces=worker.started > 0,
            )
            code = self._serve(context)
        except BaseException:
            log.exception("worker failed", extra={"worker": worker.index})
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _note_ready(self) -> None:
        for worker in self._workers:
            if worker.pid and not worker.ready and _has_byte(worker.ready_pipe):
                worker.ready = True
                os.close(worker.ready_pipe)
        if not self._announced and all(worker.ready for worker in self._workers):
            self._announced = True
            self._on_ready()

    def _reap(self) -> list[_Worker]:
        """Workers that have ended since the last look."""
        ended = []
        for worker in self._workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                worker.pid = 0
                worker.exit_code = os.waitstatus_to_exitcode(status)
                if not worker.ready:
                    os.close(worker.ready_pipe)
                ended.append(worker)
        return ended

    def _plan_restart(self, worker: _Worker) -> None:
        now = time.monotonic()
        worker.failures = 0 if now - worker.started > _HEALTHY_S else worker.failures + 1
        wait = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2 ** max(0, worker.failures - 1))
        worker.restart_at = now + wait
        log.error(
            "worker died and is replaced",
            extra={"worker": worker.index, "exit_code": worker.exit_code, "wait_s": round(wait, 1)},
        )

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)

    def _stop(self) -> None:
        """Let every worker drain; kill those that do not end in time."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + self._drain_timeout_s + _STOP_MARGIN_S
        while any(worker.pid for worker in self._workers) and time.monotonic() < deadline:
            received = signal.sigtimedwait(_SIGNALS, min(0.5, max(0.0, deadline - time.monotonic())))
            if received is not None and received.si_signo == signal.SIGINT:
                # A second Ctrl-C: the workers do not wait for their answers either.
                self._signal(signal.SIGINT)
            self._reap()
        self._signal(signal.SIGKILL)
        while any(worker.pid for worker in self._workers):
            self._reap()
            time.sleep(0.01)


def _has_byte(pipe: int) -> bool:
    try:
        return bool(os.read(pipe, 1))
    except BlockingIOError:
        return False
