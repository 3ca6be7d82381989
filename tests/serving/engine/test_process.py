"""The supervised process with a small real server in vLLM's place."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from serving.engine import process as process_module
from serving.engine.address import Address, free_port
from serving.engine.errors import EngineFailed
from serving.engine.process import State, SupervisedProcess

pytestmark = pytest.mark.processes

SERVER = """
import http.server, pathlib, sys, time
port, start_seconds, folder = int(sys.argv[1]), float(sys.argv[2]), pathlib.Path(sys.argv[3])
print("INFO Starting to load model", flush=True)
time.sleep(start_seconds)
if (folder / "fail").exists():
    raise ValueError((folder / "fail").read_text())
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if (folder / "sick").exists() else 200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Health).serve_forever()
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., SupervisedProcess]]:
    made: list[SupervisedProcess] = []

    def build(start_seconds: float = 0.0, **options: Any) -> SupervisedProcess:
        address = Address("127.0.0.1", free_port())
        command = [sys.executable, "-c", SERVER, str(address.port), str(start_seconds), str(tmp_path)]
        made.append(
            SupervisedProcess(
                "engine", command, os.environ, address, "/health", tmp_path / "logs" / "engine.log", **options
            )
        )
        return made[-1]

    yield build
    for engine in made:
        engine.kill()


def step_until(program: SupervisedProcess, state: State, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while program.step() is not state:
        assert time.monotonic() < deadline, f"{program.state} after {seconds} s"
        time.sleep(0.02)


def server_of(program: SupervisedProcess) -> psutil.Process:
    return psutil.Process(program.pid).children()[0]


def test_becomes_ready_and_stops_without_leftovers(make):
    engine = make()
    engine.start()
    step_until(engine, State.READY)
    server = server_of(engine)

    engine.terminate()
    engine.wait(5)

    assert engine.state is State.STOPPED
    assert not server.is_running()


def test_says_what_it_is_doing_while_it_starts(make):
    engine = make(start_seconds=60)
    engine.start()

    deadline = time.monotonic() + 10
    while engine.phase != "loading weights" and time.monotonic() < deadline:
        engine.step()
        time.sleep(0.02)

    assert engine.phase == "loading weights"


def test_stopping_during_the_start_takes_no_grace(make):
    engine = make(start_seconds=60, grace_seconds=30)
    engine.start()
    engine.step()
    began = time.monotonic()

    engine.terminate()
    engine.wait(30)

    assert time.monotonic() - began < 3


def test_failed_first_start_says_why_and_where_the_log_is(make, tmp_path: Path):
    (tmp_path / "fail").write_text("the weights are made of cheese")
    engine = make()
    engine.start()

    with pytest.raises(EngineFailed, match=r"weights are made of cheese.*logs/engine\.log"):
        step_until(engine, State.READY)


def test_is_restarted_when_killed(make):
    engine = make()
    engine.start()
    step_until(engine, State.READY)
    first = server_of(engine)

    os.kill(first.pid, signal.SIGKILL)

    step_until(engine, State.WAITING)
    assert "signal 9" in engine.last_death
    step_until(engine, State.READY)
    assert engine.restarts == 1
    assert server_of(engine).pid != first.pid
    with urllib.request.urlopen(f"{engine.address.url}/health", timeout=5) as answer:
        assert answer.status == 200


def test_a_check_comes_before_each_restart_and_its_failure_ends_the_program(make):
    failures = [ValueError("the weights have changed"), None]

    def check() -> None:
        if (failure := failures.pop()) is not None:
            raise failure

    engine = make(before_restart=check)
    engine.start()
    step_until(engine, State.READY)
    assert len(failures) == 2

    os.kill(server_of(engine).pid, signal.SIGKILL)
    step_until(engine, State.WAITING)
    step_until(engine, State.READY)
    assert len(failures) == 1
    os.kill(server_of(engine).pid, signal.SIGKILL)
    step_until(engine, State.WAITING)
    with pytest.raises(ValueError, match="weights have changed"):
        step_until(engine, State.READY, 20)


def test_is_restarted_when_it_says_that_it_is_dead(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_module, "PROBE_SECONDS", 0.05)
    engine = make()
    engine.start()
    step_until(engine, State.READY)

    (tmp_path / "sick").touch()
    step_until(engine, State.WAITING)
    (tmp_path / "sick").unlink()

    step_until(engine, State.READY)


def test_gives_up_when_it_cannot_be_brought_up_again(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_module, "BACKOFF_SECONDS", (0.01,))
    monkeypatch.setattr(process_module, "MAX_FAILED_RESTARTS", 2)
    engine = make()
    engine.start()
    step_until(engine, State.READY)

    (tmp_path / "fail").write_text("gone for good")
    os.kill(server_of(engine).pid, signal.SIGKILL)

    with pytest.raises(EngineFailed, match=r"3 times in a row: .*gone for good"):
        step_until(engine, State.STOPPED)


def test_start_that_takes_too_long_fails(make):
    engine = make(start_seconds=60, start_timeout_seconds=0.3)
    engine.start()

    with pytest.raises(EngineFailed, match=r"not ready after 0 s .*engine\.start_timeout_s"):
        step_until(engine, State.READY)
    assert engine.pid is None
