"""The watchdog with real processes: nothing of a command's tree outlives its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from serving.processes.child import Child, output_lines

# A parent with a child that ignores SIGTERM and has left the group and the session, as vLLM's may.
TREE = """
import os, subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"],
    start_new_session=True,
)
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def tree() -> Iterator[tuple[Child, int, int]]:
    child = Child([sys.executable, "-c", TREE], os.environ, subprocess.PIPE, grace_seconds=0.5)
    assert child.stdout is not None
    parent, grandchild = map(int, child.stdout.readline().split())
    yield child, parent, grandchild
    child.kill()


def test_killing_ends_the_whole_tree(tree):
    child, parent, grandchild = tree

    child.kill()

    assert is_gone(parent)
    assert is_gone(grandchild)


def test_terminating_kills_what_ignores_it_after_the_grace_time(tree):
    child, parent, grandchild = tree

    child.terminate()

    assert eventually(lambda: is_gone(parent) and is_gone(grandchild) and child.poll() is not None, 5)


def test_grandchild_dies_when_its_parent_is_killed(tree):
    child, parent, grandchild = tree

    os.kill(parent, signal.SIGKILL)

    assert eventually(lambda: child.poll() == 128 + signal.SIGKILL)
    assert is_gone(grandchild)


def test_sweeps_up_when_the_watchdog_itself_is_killed(tree):
    child, parent, grandchild = tree

    os.kill(child.pid, signal.SIGKILL)
    assert eventually(lambda: child.poll() is not None)
    child.kill()

    assert eventually(lambda: is_gone(parent))
    os.kill(grandchild, signal.SIGKILL)  # left the session: out of reach without its watchdog


def test_tree_dies_when_the_supervisor_is_killed():
    program = (
        "import os, subprocess, sys, time; from serving.processes.child import Child;"
        f"child = Child([sys.executable, '-c', {TREE!r}], os.environ, subprocess.PIPE, 60);"
        "print(child.pid, *map(int, child.stdout.readline().split()), flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]

        supervisor.kill()

        assert len(pids) == 3
        assert eventually(lambda: all(is_gone(pid) for pid in pids))


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory is not in /dev/shm here")
def test_shared_memory_of_what_is_killed_is_freed():
    program = (
        "import time; from multiprocessing.shared_memory import SharedMemory;"
        "memory = SharedMemory(create=True, size=4096); print(memory.name, flush=True); time.sleep(600)"
    )
    child = Child([sys.executable, "-c", program], os.environ, subprocess.PIPE, grace_seconds=1)
    assert child.stdout is not None
    name = child.stdout.readline().decode().strip()
    assert (Path("/dev/shm") / name).exists()

    child.kill()

    assert not (Path("/dev/shm") / name).exists()


def test_exit_code_and_output_pass_through(tmp_path: Path):
    with (tmp_path / "log").open("wb") as log:
        child = Child([sys.executable, "-c", "print('hello'); raise SystemExit(3)"], os.environ, log, grace_seconds=1)
        assert eventually(lambda: child.poll() is not None)
        child.kill()

    assert child.poll() == 3
    assert (tmp_path / "log").read_text() == "hello\n"


def test_output_lines_kills_the_command_when_nobody_listens_any_more():
    lines = output_lines([sys.executable, "-c", TREE], os.environ)
    parent, grandchild = map(int, next(lines).split())

    lines.close()

    assert is_gone(parent)
    assert is_gone(grandchild)


def test_output_lines_raises_on_failure():
    with pytest.raises(subprocess.CalledProcessError):
        list(output_lines([sys.executable, "-c", "raise SystemExit(1)"], os.environ))
