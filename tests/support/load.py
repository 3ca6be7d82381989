"""Clients that ask a gateway again and again while something under it is broken, and what became of every request."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import httpx

from loadtests.tools.answers import answer_text
from loadtests.tools.processes import REPOSITORY
from tests.support.running import answers_ok, free_port, wait_until

NUM_TOKENS = 24
MESSAGES = [{"role": "user", "content": "Hello."}]
QUESTION: dict[str, Any] = {"model": "standin", "messages": MESSAGES, "max_tokens": NUM_TOKENS}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
_FIELD = re.compile(r"(data|event|id|retry)?: ?")
# Longer than any wait that the gateways under test are set to.
HUNG_AFTER_S = 20.0


class EngineProcess:
    """A stand-in engine in a process of its own: killed, stopped, slowed and brought back at the same port."""

    def __init__(self, step_ms: float = 0) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._step_ms = step_ms
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "loadtests.tools.standin",
            "--port",
            str(self.port),
            "--step-ms",
            str(self._step_ms),
        ]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        wait_until(lambda: answers_ok(f"{self.url}/health"), 20, "the engine listens", process)
        return process

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.go_on()
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        self.process = self._start()

    @classmethod
    @contextmanager
    def run(cls, step_ms: float = 0) -> Iterator[Self]:
        engine = cls(step_ms)
        try:
            yield engine
        finally:
            engine.kill()


@dataclass
class Seen:
    """`outcomes` by name: `complete`, `refused CODE`, `ended CODE` (an error event), and what may never be:
    `hung`, `cut` (a broken connection), `malformed`, `wrong text`."""

    outcomes: Counter[str] = field(default_factory=Counter)
    complete: list[str] = field(default_factory=list)
    """Request ids of the answers that came whole."""

    @property
    def bad(self) -> dict[str, int]:
        """What no fault excuses."""
        return {name: count for name, count in self.outcomes.items() if name in ("hung", "malformed", "wrong text")}

    @property
    def failed(self) -> dict[str, int]:
        return {name: count for name, count in self.outcomes.items() if name != "complete"}


def outcome_of(status: int, content_type: str, told: bytes, expected: str | None) -> str:
    """What became of one request; `expected` is the text of its stream, if it is known."""
    try:
        if not content_type.startswith("text/event-stream"):
            body = json.loads(told)
            return "complete" if status == 200 and "choices" in body else f"refused {body['error']['code']}"
        events = told.decode().split("\n\n")
        assert events.pop() == ""
        assert all(_FIELD.match(line) for event in events for line in event.split("\n"))
        data = [event.removeprefix("data: ") for event in events if event.startswith("data: ")]
        done = data[-1] == "[DONE]"
        objects = [json.loads(event) for event in data[: -1 if done else None]]
    except (ValueError, KeyError, AssertionError, IndexError):
        return "malformed"
    if errors := [event["error"]["code"] for event in objects if "error" in event]:
        return f"ended {errors[0]}"
    if not done:
        return "malformed"
    if expected is None:
        return "complete"
    text = "".join(choice["delta"].get("content") or "" for event in objects for choice in event["choices"])
    return "complete" if text == expected else "wrong text"


async def ask(session: aiohttp.ClientSession, url: str, body: Mapping[str, Any], seen: Seen) -> None:
    """One request, its outcome noted."""
    expected = answer_text(body["max_tokens"]) if body.get("stream") else None
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            told = await response.read()
    except TimeoutError:
        seen.outcomes["hung"] += 1
    except (aiohttp.ClientError, OSError):
        seen.outcomes["cut"] += 1
    else:
        outcome = outcome_of(response.status, response.headers.get("content-type", ""), told, expected)
        seen.outcomes[outcome] += 1
        if outcome == "complete":
            seen.complete.append(response.headers["x-request-id"])


@contextmanager
def load(url: str, key: str, num_clients: int = 8, pause_s: float = 0.01) -> Iterator[Seen]:
    """Clients in the background, of which half stream, each until the block ends and its last answer has come."""
    seen, stopping = Seen(), threading.Event()

    async def client(session: aiohttp.ClientSession, streams: bool) -> None:
        while not stopping.is_set():
            await ask(session, url, {**QUESTION, **STREAM} if streams else QUESTION, seen)
            await asyncio.sleep(pause_s)

    async def clients() -> None:
        timeout = aiohttp.ClientTimeout(total=HUNG_AFTER_S)
        # A connection for every request: over workers, the kernel then chooses anew each time.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        headers = {"authorization": f"Bearer {key}"}
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector, headers=headers) as session,
            asyncio.TaskGroup() as group,
        ):
            for number in range(num_clients):
                group.create_task(client(session, number % 2 == 0))

    thread = threading.Thread(target=lambda: asyncio.run(clients()))
    thread.start()
    try:
        yield seen
    finally:
        stopping.set()
        thread.join(HUNG_AFTER_S + 10)
        assert not thread.is_alive()


def more(seen: Seen, count: int = 20, outcome: str = "complete", within_s: float = 15) -> None:
    """Wait until so many more requests have come to this end."""
    before = seen.outcomes[outcome]
    deadline = time.monotonic() + within_s
    while seen.outcomes[outcome] < before + count:
        assert time.monotonic() < deadline, f"not {count} more {outcome!r}: {dict(seen.outcomes)}"
        time.sleep(0.01)


def metric(url: str, name: str) -> float:
    """The sum of a gateway's samples of this name."""
    lines = httpx.get(f"{url}/metrics", timeout=10).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))
