"""The protocol, with small programs in the worker's place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import wait_until
from training.compress.errors import NotQuantizable, WorkerFailed
from training.compress.process import run_worker


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "worker.log"


def program(body: str) -> list[str]:
    """A worker that knows its job as `job` and can `send` messages."""
    head = "import json, os, sys, time\njob = json.loads(open(sys.argv[1]).read())\n"
    send = "def send(**message): print(json.dumps(message), flush=True)\n"
    return [sys.executable, "-c", head + send + body]


def test_the_job_goes_in_and_the_result_comes_out(log: Path) -> None:
    result = run_worker(program("send(event='result', double=2 * job['number'])"), {"number": 21}, log)

    assert result == {"double": 42}


def test_a_job_larger_than_a_pipe(log: Path) -> None:
    result = run_worker(program("send(event='result', length=len(job['ids']))"), {"ids": [1] * 200_000}, log)

    assert result == {"length": 200_000}


def test_progress_is_passed_on_in_order(log: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    body = "for i in range(3): send(event='progress', step='Counting', done=i, total=3)\nsend(event='result')"

    run_worker(program(body), {}, log, lambda step, done, total: seen.append((step, done, total)))

    assert seen == [("Counting", 0, 3), ("Counting", 1, 3), ("Counting", 2, 3)]


def test_a_refusal_is_the_users_to_mend(log: Path) -> None:
    with pytest.raises(NotQuantizable, match="too narrow"):
        run_worker(program("send(event='refused', reason='too narrow')"), {}, log)


def test_a_crash_is_one_line_and_the_rest_is_in_the_log(log: Path) -> None:
    with pytest.raises(WorkerFailed, match="ValueError: bad weights") as failure:
        run_worker(program("raise ValueError('bad weights')"), {}, log)

    assert str(log) in str(failure.value)
    assert "\n" not in str(failure.value)
    assert "Traceback" in log.read_text()


def test_a_kill_is_most_often_want_of_memory(log: Path) -> None:
    with pytest.raises(WorkerFailed, match="want of memory"):
        run_worker(program("os.kill(os.getpid(), 9)"), {}, log)


def test_a_result_before_a_crash_does_not_count(log: Path) -> None:
    with pytest.raises(WorkerFailed):
        run_worker(program("send(event='result')\nsys.exit(1)"), {}, log)


def test_an_interrupt_takes_the_worker_and_its_children_along(log: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    body = (
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "send(event='progress', step='Sleeping', done=0, total=1)\n"
        "time.sleep(600)"
    )

    def interrupt(step: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_worker(program(body), {}, log, interrupt)

    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: is_gone(int(pid)), 10, f"process {pid} has ended")


def is_gone(pid: int) -> bool:
    """Ended; a zombie that nobody has collected counts, since its parent was killed as well."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_worker_ends_when_its_caller_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    body = f"open({str(pid)!r}, 'w').write(str(os.getpid()) + '\\n')\ntime.sleep(600)"
    caller = (
        "from pathlib import Path; from training.compress.process import run_worker;"
        f"run_worker({program(body)!r}, {{}}, Path({str(tmp_path / 'log')!r}))"
    )
    running = subprocess.Popen([sys.executable, "-c", caller])
    wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"), 30, "the worker runs")

    running.kill()
    running.wait(10)

    wait_until(lambda: is_gone(int(pid.read_text())), 10, "the worker has ended")
