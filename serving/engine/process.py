"""One program under supervision: started, watched, restarted when it dies, stopped without leftovers.

    starting ──► ready ──► (dies) ──► waiting ──► starting …
       └─ dies, or takes too long, before it was ever ready ──► EngineFailed

Nothing here blocks for long: whoever supervises calls `step` a few times a second.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from pathlib import Path

from serving.engine.address import Address
from serving.engine.errors import EngineFailed
from serving.engine.startup import StartupLog
from serving.processes.child import Child

# Seconds before the first, second, … restart in a row; the last repeats. The first is short: most deaths are single.
BACKOFF_SECONDS = (0.5, 2.0, 5.0, 15.0, 30.0)
# An engine that was up for this long starts again at the beginning of the backoff.
STABLE_SECONDS = 120.0
# So many failed starts in a row after it was up once, and it is not going to be up again.
MAX_FAILED_RESTARTS = 5

PROBE_SECONDS = 2.0
PROBE_TIMEOUT_SECONDS = 2.0


class State(Enum):
    """Where a program is in its life."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting to restart"
    STOPPED = "stopped"


class SupervisedProcess:
    """Keeps one server running: an engine, the gateway or a worker.

    `state` and `phase` say how it is, `last_death` why it died last; `restarts` counts.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        address: Address,
        health_path: str,
        log_file: Path,
        start_timeout_seconds: float = 900.0,
        grace_seconds: float = 5.0,
        before_restart: Callable[[], None] | None = None,
    ) -> None:
        """`before_restart` is called, in a thread, before each start but the first; what it raises ends the program."""
        self.name = name
        self.address = address
        self.state = State.STOPPED
        self.phase = ""
        self.last_death = ""
        self.restarts = 0
        self._command = command
        self._environment = environment
        self._health_path = health_path
        self._log_file = log_file
        self._start_timeout = start_timeout_seconds
        self._grace_seconds = grace_seconds
        self._before_restart = before_restart
        self._checked: Future[None] | None = None
        self._child: Child | None = None
        self._log: StartupLog | None = None
        self._was_ready = False
        self._deaths_in_a_row = 0
        self._since = 0.0
        self._due = 0.0

    @property
    def pid(self) -> int | None:
        """The process that holds the program's tree, or None while there is none."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start the program; returns at once."""
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        self._log = StartupLog(self._log_file)
        with self._log_file.open("ab") as log:
            self._child = Child(self._command, self._environment, log, self._grace_seconds)
        self._become(State.STARTING)
        self.phase = self._log.phase()

    def step(self) -> State:
        """Look at the program and do what is due; returns the state it is in now.

        Raises EngineFailed when it died before it was ever ready, or cannot be brought up again; and what
        `before_restart` raises.
        """
        if self.state is State.WAITING and time.monotonic() >= self._due:
            if self._may_restart():
                self.restarts += 1
                self.start()
        elif self.state in (State.STARTING, State.READY):
            self._watch()
        return self.state

    def probe(self, path: str) -> int | None:
        """The status that the program answers to a GET of `path`, or None when there was no answer in time."""
        connection = http.client.HTTPConnection(
            self.address.reachable_host, self.address.port, timeout=PROBE_TIMEOUT_SECONDS
        )
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def terminate(self) -> None:
        """Ask it to stop, and return at once: with grace when it is ready, else it is killed right away.

        During its start vLLM does not heed SIGTERM, and nothing has anything to finish.
        """
        if self._child is not None and self.state is State.READY:
            self._child.terminate()
        else:
            self.kill()

    def wait(self, seconds: float) -> None:
        """Wait for it to end, and kill it when the time is over. No process is left on return."""
        if self._child is not None:
            self._child.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End every process of it now."""
        if self._child is not None:
            self._child.kill()
            self._child = None
        self._become(State.STOPPED)

    def _may_restart(self) -> bool:
        """Begin the check before a restart, then look whether it is done."""
        if self._before_restart is None:
            return True
        if self._checked is None:
            pool = ThreadPoolExecutor(max_workers=1)
            self._checked = pool.submit(self._before_restart)
            pool.shutdown(wait=False)
        if not self._checked.done():
            return False
        checked, self._checked = self._checked, None
        checked.result()
        return True

    def _watch(self) -> None:
        assert self._child is not None
        assert self._log is not None
        code = self._child.poll()
        if code is not None:
            self._died(self._log.reason(code))
        elif self.state is State.STARTING:
            self.phase = self._log.phase()
            if self.probe(self._health_path) == http.client.OK:
                self._become(State.READY)
                self._was_ready = True
            elif time.monotonic() - self._since > self._start_timeout:
                self._died(
                    f"it was not ready after {self._start_timeout:.0f} s ({self.phase}): raise engine.start_timeout_s"
                )
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + PROBE_SECONDS
            # 503 is vLLM's word that its core is dead. No answer in time only means that it is busy.
            if self.probe(self._health_path) == http.client.SERVICE_UNAVAILABLE:
                self._died("its core died")

    def _died(self, reason: str) -> None:
        """Clear what is left, and either plan the next start or give up."""
        assert self._child is not None
        self._child.kill()
        self._child = None
        self.last_death = reason
        was_up = self.state is State.READY
        up_seconds = time.monotonic() - self._since
        self._become(State.STOPPED)
        if not self._was_ready:
            raise EngineFailed(f"the {self.name} did not start: {reason}. Its log: {self._log_file}")
        self._deaths_in_a_row = 1 if was_up and up_seconds > STABLE_SECONDS else self._deaths_in_a_row + 1
        if self._deaths_in_a_row > MAX_FAILED_RESTARTS:
            raise EngineFailed(
                f"the {self.name} died {self._deaths_in_a_row} times in a row: {reason}. Its log: {self._log_file}"
            )
        self._become(State.WAITING)
        wait = BACKOFF_SECONDS[min(self._deaths_in_a_row, len(BACKOFF_SECONDS)) - 1]
        self._due = time.monotonic() + wait

    def _become(self, state: State) -> None:
        self.state = state
        self._since = time.monotonic()
