"""The real engine under `signet serve`: it answers, comes back when it is killed, and leaves nothing behind.

On the shared engine, after all other tests of it: this one ends it.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import httpx
import psutil
import pytest

from tests.support.running import still_running, wait_until
from tests.support.stack import DEFAULT_MODEL, Stack

pytestmark = pytest.mark.engine

START_SECONDS = 240.0


def choice(stack: Stack, text: str) -> dict:
    answer = httpx.post(
        f"{stack.gateway_url}/v1/chat/completions",
        headers={"authorization": f"Bearer {stack.key}"},
        json={"model": DEFAULT_MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0},
        timeout=120,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def engine_parts(stack: Stack) -> dict[str, psutil.Process]:
    """vLLM's processes by what they are; the watchdog, which has their command on its own line, is none of them."""
    titles: dict[str, psutil.Process] = {}
    for process in stack.tree():
        with suppress(psutil.NoSuchProcess):  # gone, or a zombie, since it was listed
            titles[" ".join(process.cmdline())] = process
    kinds = ("serving.engine.server", "EngineCore", "Worker")
    return {
        kind: each for kind in kinds for title, each in titles.items() if kind in title and "watchdog.py" not in title
    }


def test_answers_survives_kill_9_and_leaves_nothing(stack: Stack) -> None:
    def wait_for(count: int, words: str, seconds: float) -> None:
        wait_until(lambda: stack.output.count(words) > count, seconds, f"{words!r} in {stack.home}", stack.process)

    wait_for(0, "Ctrl-C stops everything", 5)
    before = choice(stack, "What is the capital of France?")
    assert "Paris" in before["message"]["content"]
    assert before["finish_reason"] == "stop"  # the end-of-turn token, not the length

    first = engine_parts(stack)
    assert "Worker" not in first  # a process that would have imported vLLM once more
    os.kill(first["EngineCore"].pid, signal.SIGKILL)
    wait_for(0, "started again", 30)
    wait_for(0, "ready again", START_SECONDS)
    assert "Paris" in choice(stack, "What is the capital of France?")["message"]["content"]
    assert still_running(list(first.values())) == []

    deaths = stack.output.count("started again")
    os.kill(engine_parts(stack)["serving.engine.server"].pid, signal.SIGKILL)
    wait_for(deaths, "started again", 30)
    wait_until(lambda: "EngineCore" in engine_parts(stack), START_SECONDS, "the engine starts", stack.process)
    processes = stack.tree()

    began = time.monotonic()
    stack.process.send_signal(signal.SIGINT)
    stack.process.wait(20)

    assert time.monotonic() - began < 10
    assert still_running(processes) == []
    assert [path.name for path in stack.temporary.rglob("*") if path.is_socket()] == []  # as a killed engine does
