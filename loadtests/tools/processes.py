"""Programs under measurement: started on one core, polled until ready, metered from /proc, stopped with their children.

Linux only: pinning and /proc are what make the figures trustworthy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# Where `python -m loadtests.tools.standin` and friends are found, wherever the caller was started.
REPOSITORY = Path(__file__).resolve().parents[2]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ProgramError(Exception):
    """A program did not start, or did not become ready; the message holds the end of what it printed."""


class Program:
    """A running program with its children."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self._log = log

    def cpu_s(self) -> float:
        """User and system time so far, all processes of the program together, to 10 ms."""
        return sum(_cpu_s(pid) for pid in _with_children(self.process.pid))

    def peak_rss_bytes(self) -> int:
        """Peak resident memory, all processes together (shared pages count once per process)."""
        return sum(_status_bytes(pid, "VmHWM:") for pid in _with_children(self.process.pid))

    def rss_bytes(self) -> int:
        """Resident memory now, all processes together (shared pages count once per process)."""
        return resident_bytes(self.process.pid)

    def wait_ready(self, url: str, headers: Mapping[str, str], timeout_s: float = 60.0) -> float:
        """Poll until `url` answers 200; returns the seconds waited. Raises ProgramError."""
        started = time.monotonic()
        while time.monotonic() - started < timeout_s:
            if self.process.poll() is not None:
                raise ProgramError(f"{self.name} ended with code {self.process.returncode}: {self._last_lines()}")
            if _answers(url, headers):
                return time.monotonic() - started
            time.sleep(0.05)
        raise ProgramError(f"{self.name} did not answer {url} within {timeout_s:.0f} s: {self._last_lines()}")

    def wait_said(self, words: str, timeout_s: float = 60.0) -> None:
        """Poll until the program has printed `words`. Raises ProgramError."""
        deadline = time.monotonic() + timeout_s
        while words not in self._log.read_text(errors="replace"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ProgramError(f"{self.name} did not say {words!r} in time: {self._last_lines()}")
            time.sleep(0.05)

    def stop(self, grace_s: float = 10.0) -> None:
        """SIGTERM to the program, and SIGKILL to its whole group for what is left after the grace."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_s)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def children(self) -> list[int]:
        """Process ids of what the program itself has started."""
        return _children(self.process.pid)

    def _last_lines(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-4:]) or "it printed nothing"


@contextmanager
def running(
    name: str, command: Sequence[str], log_folder: Path, core: int | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Run a program, pinned to `core`, in its own process group; its output goes to a file in `log_folder`."""
    log = log_folder / f"{name.replace(' ', '-').replace('/', '-')}.log"
    pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                list(command),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=REPOSITORY,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                preexec_fn=pin,
            )
        except OSError as error:
            raise ProgramError(f"{name} cannot be started: {error}") from error
    program = Program(name, process, log)
    try:
        yield program
    finally:
        program.stop()


def _answers(url: str, headers: Mapping[str, str]) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _cpu_s(pid: int) -> float:
    with suppress(OSError):
        # The fields after the command, which may hold spaces and is closed by the last parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return 0.0


def _status_bytes(pid: int, field: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and of all below it (shared pages count once per process)."""
    return sum(_status_bytes(each, "VmRSS:") for each in _with_children(pid))


def _with_children(pid: int) -> Iterator[int]:
    pending = [pid]
    while pending:
        pid = pending.pop()
        yield pid
        pending += _children(pid)


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    return children
