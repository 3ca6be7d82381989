from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtests.tools.processes import ProgramError, running

SPIN = "import time\nwhile time.process_time() < {seconds}: pass\nprint('spun', flush=True)\ntime.sleep(60)"
WITH_CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_cpu_time_is_what_the_program_used(tmp_path: Path) -> None:
    with running("spin", [sys.executable, "-c", SPIN.format(seconds=0.5)], tmp_path) as program:
        assert eventually(lambda: "spun" in (tmp_path / "spin.log").read_text())

        # To the clock tick, and what the interpreter does before and after.
        assert 0.49 <= program.cpu_s() < 0.8


def test_cpu_time_and_memory_include_children(tmp_path: Path) -> None:
    code = WITH_CHILD.format(child="x = b'x' * 100_000_000\n" + SPIN.format(seconds=0.5))
    with running("parent", [sys.executable, "-c", code], tmp_path) as program:
        assert eventually(lambda: "spun" in (tmp_path / "parent.log").read_text())

        assert program.cpu_s() >= 0.5
        assert program.peak_rss_bytes() > 100_000_000


def test_stop_ends_the_whole_group(tmp_path: Path) -> None:
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with running("parent", [sys.executable, "-c", WITH_CHILD.format(child=child)], tmp_path):
        assert eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        pid = int((tmp_path / "pid").read_text())

    assert eventually(lambda: not is_running(pid))


def test_a_program_is_pinned(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    code = "import os; print(os.sched_getaffinity(0), flush=True)"
    with running("pinned", [sys.executable, "-c", code], tmp_path, core) as program:
        program.process.wait(30)

    assert (tmp_path / "pinned.log").read_text().strip() == f"{{{core}}}"


def test_a_program_that_ends_early_says_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such model'); raise SystemExit(3)"]
    with (
        running("early", command, tmp_path) as program,
        pytest.raises(ProgramError, match="early ended with code 3: no such model"),
    ):
        program.wait_ready("http://127.0.0.1:9/", {}, timeout_s=30)


def test_a_program_is_waited_for_until_it_says_so(tmp_path: Path) -> None:
    code = "print('all is ready', flush=True); input()"
    with running("ready", [sys.executable, "-c", code], tmp_path) as program:
        program.wait_said("is ready", timeout_s=30)
        with pytest.raises(ProgramError, match="did not say 'more' in time: "):
            program.wait_said("more", timeout_s=30)


def test_a_program_that_is_not_there_is_a_program_error(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="cannot be started"), running("none", ["/no/such"], tmp_path):
        pass


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
