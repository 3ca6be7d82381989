"""The real engine under `signet serve`: it answers, comes back when it is killed, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from conftest import fresh_home
from running import beside_another_engine

pytestmark = [pytest.mark.engine, pytest.mark.slow]

START_SECONDS = 240.0


def chat(port: int, key: str, text: str) -> dict:
    body = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": text}], "temperature": 0}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)["choices"][0]


def engine_parts(run) -> dict[str, psutil.Process]:
    """vLLM's processes by what they are; the watchdog, which has their command on its own line, is none of them."""
    titles: dict[str, psutil.Process] = {}
    for process in run.tree():
        with suppress(psutil.NoSuchProcess):  # gone, or a zombie, since it was listed
            titles[" ".join(process.cmdline())] = process
    kinds = ("serving.engine.server", "EngineCore", "Worker")
    return {
        kind: each for kind in kinds for title, each in titles.items() if kind in title and "watchdog.py" not in title
    }


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files with a short path: a socket's has 107 characters at the most."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


def test_answers_survives_kill_9_and_leaves_nothing(prepared_home: Path, tmp_path: Path, temporary: Path, start_serve):
    home = fresh_home(prepared_home, tmp_path / "home")
    run = start_serve(home, TMPDIR=str(temporary), **beside_another_engine())

    run.wait_for("Ctrl-C stops everything", START_SECONDS)
    key = (home / "first_key").read_text().strip()
    choice = chat(run.port, key, "What is the capital of France?")
    assert "Paris" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"  # the end-of-turn token, not the length

    first = engine_parts(run)
    assert "Worker" not in first  # a process that would have imported vLLM once more
    os.kill(first["EngineCore"].pid, signal.SIGKILL)
    run.wait_for("started again", 30)
    run.wait_for("ready again", START_SECONDS)
    assert "Paris" in chat(run.port, key, "What is the capital of France?")["message"]["content"]
    assert run.leaves_nothing(list(first.values()))

    deaths = run.text.count("started again")
    os.kill(engine_parts(run)["serving.engine.server"].pid, signal.SIGKILL)
    run.wait_until(lambda: run.text.count("started again") > deaths, 30)
    run.wait_until(lambda: "EngineCore" in engine_parts(run), START_SECONDS)
    processes = run.tree()

    seconds = run.stop(signal.SIGINT)

    assert seconds < 10
    assert run.leaves_nothing(processes)
    assert [path.name for path in temporary.rglob("*") if path.is_socket()] == []  # as a killed engine does
