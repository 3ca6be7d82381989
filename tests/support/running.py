"""Start real programs in tests, and wait for them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import httpx
import psutil
import pytest


class Running(Protocol):
    """As much of a process as waiting for something looks at."""

    def poll(self) -> int | None: ...


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def signet_environment(home: Path, **settings: str) -> dict[str, str]:
    """This process's environment without its own Signet settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SIGNET_", "OTEL_"))}
    return {**clean, "SIGNET_HOME": str(home), **settings}


def run_signet(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A `signet` command, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "signet", *arguments],
        env=signet_environment(home, **settings),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def wait_until(condition: Callable[[], bool], seconds: float, what: str, process: Running | None = None) -> None:
    """Poll `condition()` until it is true; fail when `seconds` have passed or `process` has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            pytest.fail(f"the process ended with {process.poll()} before: {what}")
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of them that have not ended."""
    return [process for process in processes if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it ended between the two looks
        return False


def answers_ok(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def running_signet(
    home: Path, ready_url: str, seconds: float, *arguments: str, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A `signet` command that goes on until it is stopped, at the end; yields its process when it is ready."""
    command = [sys.executable, "-m", "signet", *arguments]
    environment = signet_environment(home, **settings)
    with (home / f"{arguments[0]}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: answers_ok(ready_url), seconds, f"{arguments[0]} is ready; see {log.name}", process)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def running_engine(home: Path, model: str, *arguments: str) -> Iterator[str]:
    """A `signet engine` of its own; yields its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ("engine", "--model", model, "--port", str(port), *arguments)
    with running_signet(home, f"{url}/health", 300, *command, **beside_another_engine()):
        yield url


def beside_another_engine() -> dict[str, str]:
    """Settings that keep an engine off the cores where every engine on this machine would start first."""
    cores = sorted(os.sched_getaffinity(0))
    return {"SIGNET_ENGINE__CPU_THREADS_BIND": ",".join(map(str, cores[len(cores) // 2 :]))}
