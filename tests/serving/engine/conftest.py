"""Runs of `signet serve` in a home of their own, ended however the test ends."""

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

from serving.engine.address import free_port
from tests.support.running import still_running
from training.registry import ManifestDraft, Registry


class Serve:
    """One run of `signet serve` in a home of its own."""

    def __init__(self, home: Path, *arguments: str, **environment: str) -> None:
        self.home = home
        self.port = free_port()
        self.output = home.parent / "output"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SIGNET_", "OTEL_"))}
        command = [sys.executable, "-m", "signet", "serve", "--port", str(self.port), *arguments]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env={**clean, "SIGNET_HOME": str(home), "SIGNET_DRIFT__PORT": "0", **environment},
                cwd=home.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, words: str, seconds: float = 40.0) -> None:
        eventually(lambda: words in self.text, seconds, lambda: f"{words!r} in:\n{self.text}")

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        eventually(condition, seconds, lambda: self.text)

    def tree(self) -> list[psutil.Process]:
        return still_running(psutil.Process(self.process.pid).children(recursive=True))

    def stop(self, number: int = signal.SIGINT) -> float:
        """Send a signal; return the seconds until it has ended."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        return time.monotonic() - began

    def leaves_nothing(self, processes: list[psutil.Process], seconds: float = 0.0) -> bool:
        """Whether all these processes are gone, after so many seconds at most."""
        eventually(lambda: not still_running(processes), seconds, lambda: str(still_running(processes)))
        return True


def eventually(condition: Callable[[], bool], seconds: float, what: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {seconds} s: {what()}"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def closed_terminals_count() -> Iterator[None]:
    """Tests may run under nohup, which programs inherit: here a closed terminal is to stop them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a small checkpoint named `bot`."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 512}')
    (folder / "model.safetensors").write_bytes(b"weights")
    home = tmp_path / "home"
    Registry(home / "registry", home / "keys").register(folder, "bot", ManifestDraft(kind="base"))
    return home


@pytest.fixture
def start_serve() -> Iterator[Callable[..., Serve]]:
    """Start `signet serve`: `start_serve(home, *arguments, **environment)`."""
    runs: list[Serve] = []

    def start(home: Path, *arguments: str, **environment: str) -> Serve:
        runs.append(Serve(home, *arguments, **environment))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
