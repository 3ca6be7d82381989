"""`signet engine`: what an engine's container runs, with a stand-in for vLLM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from serving.engine.address import free_port

STANDIN = Path(__file__).parent / "standin"


@pytest.fixture
def engine(home: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SIGNET_")}
        path = os.pathsep.join(filter(None, [str(STANDIN), os.environ.get("PYTHONPATH")]))
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "signet", "engine", *arguments],
                env={**clean, "SIGNET_HOME": str(home), "PYTHONPATH": path},
                cwd=home,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def test_becomes_vllm_and_heeds_its_signals(engine):
    port = free_port()
    process = engine("--model", "bot", "--port", str(port))
    deadline = time.monotonic() + 30
    while not answers(f"http://127.0.0.1:{port}/health"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]

    assert "serving.engine.server" in tree[0].cmdline()
    process.send_signal(signal.SIGTERM)

    assert process.wait(10) == 0
    psutil.wait_procs(tree, timeout=5)
    assert [process for process in tree if process.is_running()] == []


def test_prepare_only_verifies_and_ends(engine, home: Path):
    process = engine("--model", "bot", "--prepare-only")
    output, _ = process.communicate(timeout=30)

    assert process.returncode == 0
    assert "bot@1" in output


def test_prepare_only_refuses_a_changed_checkpoint(engine, home: Path):
    (home / "registry" / "bot" / "1" / "model.safetensors").write_bytes(b"wEights")
    process = engine("--model", "bot", "--prepare-only")
    output, _ = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "model.safetensors" in output.splitlines()[-1]
    assert "Traceback" not in output


def test_allow_unverified_says_so(engine, home: Path):
    (home / "registry" / "bot" / "1" / "model.safetensors").write_bytes(b"wEights")
    process = engine("--model", "bot", "--prepare-only", "--allow-unverified")
    output, _ = process.communicate(timeout=30)

    assert process.returncode == 0
    assert "warning" in output
    assert "model.safetensors" in output


def test_taken_port_is_one_line(engine):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process = engine("--model", "bot", "--port", str(other.getsockname()[1]))
        output, _ = process.communicate(timeout=30)

    assert process.returncode == 1
    assert output.splitlines()[-1].startswith("Error: cannot listen on 127.0.0.1:")
