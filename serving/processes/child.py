"""A child process under a watchdog: it stops when told, and never outlives us."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

WATCHDOG = Path(__file__).with_name("watchdog.py")

# What the watchdog needs to kill and collect a whole tree after the grace time is over.
KILL_SECONDS = 2.0


class Child:
    """One running command (see `watchdog` for what happens to its tree).

    Started in its own session, so that Ctrl-C in the terminal reaches only us and the order of stopping is ours.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: IO[bytes] | int,
        grace_seconds: float,
        errors: IO[bytes] | int = subprocess.STDOUT,
    ) -> None:
        """`output`, and `errors` where they are not to go there too: as of `subprocess.Popen`."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(WATCHDOG), str(grace_seconds), *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            env=dict(environment),
            start_new_session=True,
        )
        self.stdout = self._process.stdout

    @property
    def pid(self) -> int:
        """The watchdog's process id; the command and all of its children are in the same session."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, 128 + signal for a killed command, or None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def terminate(self) -> None:
        """Ask to stop; returns at once. The tree is killed when the grace time is over."""
        self._process.terminate()

    def kill(self) -> None:
        """End the whole tree now and wait until it is gone, also where the watchdog itself was killed."""
        if self._process.poll() is None and self._process.stdin is not None:
            self._process.stdin.close()
            self.wait(KILL_SECONDS)
        if self._process.poll() is None:
            # The watchdog hangs: killing it takes the command along, by the command's death signal.
            self._process.kill()
            self._process.wait()
        for pid in _session(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def wait(self, seconds: float) -> None:
        """Wait for the end at most so long; `math.inf`: for ever."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)


def _session(leader: int) -> list[int]:
    """The living processes of a session, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(int(stat.parent.name))
    return found


def output_lines(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Run a command and yield its output line by line; it is killed when the caller stops listening.

    Raises subprocess.CalledProcessError when its exit code is not zero.
    """
    child = Child(command, environment, subprocess.PIPE, grace_seconds=0)
    try:
        assert child.stdout is not None
        for line in child.stdout:
            yield line.decode(errors="replace").rstrip()
        child.wait(math.inf)
        code = child.poll()
    finally:
        child.kill()
    if code:
        raise subprocess.CalledProcessError(code, list(command))
