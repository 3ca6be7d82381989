"""Runs one command so that nothing of it can outlive us.

    python watchdog.py GRACE_SECONDS COMMAND [ARGUMENT …]

vLLM is a tree of processes, and its children do not notice when their parent is killed. The watchdog sits between the
supervisor and that tree. It adopts whatever the command leaves behind, and ends all of it when

- the command ends: the watchdog exits with the same code;
- it gets SIGTERM or SIGINT: the command is asked to stop, and killed after GRACE_SECONDS (a second signal: at once);
- its standard input closes, that is, the supervisor is gone, however it went: everything is killed at once.

Standard library only, run by its path: it starts in some 20 ms and takes 10 MB. Elsewhere than on Linux it does
without adoption and ends the command's process group only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

# From <linux/prctl.h>.
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

POLL_SECONDS = 0.1
# It takes milliseconds; longer than that, and it hangs.
TRACKER_SECONDS = 1.0


def main(arguments: list[str]) -> int:
    """Run the command to its end and return its exit code, as a shell would (128 + signal)."""
    grace_seconds, command = float(arguments[0]), arguments[1:]
    stop_signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: stop_signals.append(received))
    # A closed terminal must not take the watchdog away from what it holds: its standard input tells it soon enough.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent, process_group=0)
    try:
        _wait(child, grace_seconds, stop_signals)
    finally:
        kill_tree(child)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _wait(child: subprocess.Popen[bytes], grace_seconds: float, stop_signals: list[int]) -> None:
    """Return when the command has ended, or when nothing more is to be waited for."""
    deadline = None
    while child.poll() is None:
        if _supervisor_is_gone():
            return
        if stop_signals and deadline is None:
            deadline = time.monotonic() + grace_seconds
            child.terminate()
        if deadline is not None and (time.monotonic() >= deadline or len(stop_signals) > 1):
            return


def _supervisor_is_gone() -> bool:
    """Wait a moment for standard input, on which nothing is ever written, to close."""
    readable, _, _ = select.select([0], [], [], POLL_SECONDS)
    return bool(readable) and os.read(0, 1) == b""


def kill_tree(child: subprocess.Popen[bytes]) -> None:
    """Kill the command and everything below or adopted from it, until nothing is left."""
    trackers_may_finish_until = time.monotonic() + TRACKER_SECONDS
    while True:
        remaining = _descendants(os.getpid())
        spares_trackers = time.monotonic() < trackers_may_finish_until
        for pid in remaining:
            if not (spares_trackers and _is_resource_tracker(pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        _reap(child)
        if not remaining:
            break
        time.sleep(0.01)
    if sys.platform != "linux":  # no /proc: what stayed in the command's group is what can be found
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


def _is_resource_tracker(pid: int) -> bool:
    """Whether it is Python's own process that frees shared memory (vLLM: 160 MB) once its users are dead."""
    try:
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _reap(child: subprocess.Popen[bytes]) -> None:
    """Collect the exit codes of adopted processes; the command's own is kept by `child`."""
    child.poll()
    with contextlib.suppress(ChildProcessError):
        while child.returncode is not None and os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _descendants(pid: int) -> list[int]:
    """All processes below `pid`, from /proc; zombies are left out."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in parentheses may hold spaces and parentheses: read after the last one.
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _die_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
