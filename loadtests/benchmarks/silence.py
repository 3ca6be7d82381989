"""The longest silence of `/healthz` while a gateway cleans the costliest bodies.

    python -m loadtests.benchmarks.silence

Each body of `loadtests.tools.hostile_bodies` is sent as large as the limits let it be, alone, to a gateway in a process
of its own before the stand-in engine. Beside it another connection asks for `/healthz` again and again. What the
gateway computes during each wait tells what it would be on a machine that is not busy with other things. With `--write`
it writes the section `Event-loop latency` of docs/benchmarks/guard.md.
"""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from loadtests.tools.hostile_bodies import Body, Hostile, bodies
from loadtests.tools.processes import REPOSITORY, running
from loadtests.tools.targets import free_port
from serving.guard import GuardRefusal, GuardSettings
from serving.guard.question.limits import check_limits
from serving.identity import Identity
from serving.settings import load_settings
from training.studies.sections import machine, table_head, write_section

PAGE = REPOSITORY / "docs" / "benchmarks" / "guard.md"
LARGEST = 950_000
MAX_BYTES = 8 * 1024 * 1024
BAR_MS = 100
MODEL = "stand-in"
_TARGETS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "tokenize": "/tokenize",
}


class Silence(NamedTuple):
    """What one body did."""

    name: str
    size: int
    """Bytes."""
    status: int
    seconds: float
    """Until the answer."""
    longest_ms: float
    """Longest wait for an answer of `/healthz` meanwhile."""
    computed_ms: float
    """Most that the gateway's process, event loop and threads, computed during such a wait."""


def largest(hostile: Hostile, model: str) -> bytes:
    """The body as large as the limits let it be, as JSON."""
    size = LARGEST
    while True:
        body: Body = {**hostile.body(size), "model": model, "max_tokens": 1}
        data = json.dumps(body, ensure_ascii=False).encode()
        try:
            check_limits(body, GuardSettings())
        except GuardRefusal:
            size = size * 3 // 4
            continue
        if len(data) <= MAX_BYTES:
            return data
        size = size * 3 // 4


class Pulse:
    """Asks for `/healthz` again and again, and keeps the longest wait, and the one with the most computing."""

    def __init__(self, port: int, pid: int) -> None:
        self.longest_s = self.computed_s = 0.0
        # Linux only: nanoseconds that each thread was on a processor.
        self._tasks = Path(f"/proc/{pid}/task")
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        while not self._over.is_set():
            asked, computed = time.monotonic(), self._computed_s()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            self.longest_s = max(self.longest_s, time.monotonic() - asked)
            self.computed_s = max(self.computed_s, self._computed_s() - computed)
            time.sleep(0.002)
        connection.close()

    def _computed_s(self) -> float:
        # All threads: one that holds the interpreter's lock keeps the event loop from going on.
        return sum(int(stat.read_text().split()[0]) for stat in self._tasks.glob("*/schedstat")) / 1e9


def measure(name: str, hostile: Hostile, port: int, pid: int, key: str) -> Silence:
    """Send one body."""
    data = largest(hostile, MODEL)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    with Pulse(port, pid) as pulse:
        asked = time.monotonic()
        connection.request("POST", _TARGETS[hostile.endpoint], data, headers)
        answer = connection.getresponse()
        answer.read()
        seconds = time.monotonic() - asked
    connection.close()
    return Silence(name, len(data), answer.status, seconds, pulse.longest_s * 1000, pulse.computed_s * 1000)


@contextmanager
def gateway(home: Path) -> Iterator[tuple[int, int]]:
    """Port and process id of one before the stand-in engine."""
    engine, port = free_port(), free_port()
    standin = [sys.executable, "-m", "loadtests.tools.standin", "--port", str(engine), "--model", MODEL]
    command = [
        sys.executable,
        "-m",
        "signet",
        "gateway",
        "--port",
        str(port),
        "--engine-url",
        f"http://127.0.0.1:{engine}",
    ]
    with running("standin", standin, home) as program:
        program.wait_ready(f"http://127.0.0.1:{engine}/health", {})
        with running("gateway", command, home, env={"SIGNET_HOME": str(home)}) as program:
            program.wait_ready(f"http://127.0.0.1:{port}/readyz/engines", {})
            yield port, program.process.pid


def text_of(results: list[Silence]) -> str:
    """The section."""
    worst = sorted(results, key=lambda each: -each.computed_ms)
    where = ", ".join(f"{name} {value}" for name, value in machine().items())
    lines = [
        f"{len(results)} bodies made to cost, each as large as the limits let it be and alone "
        f"(`python -m loadtests.benchmarks.silence`); {where}. "
        "Most that the gateway's own process computed while somebody waited for `/healthz`: "
        f"{worst[0].computed_ms:.0f} ms; "
        f"at or below {BAR_MS} ms for {sum(result.computed_ms <= BAR_MS for result in results)} of {len(results)}. "
        "The waits themselves are longer where other programs hold the processors. The worst:",
        "",
        *table_head("body", "KB", "status", "answered in s", "computed, ms", "longest wait, ms"),
    ]
    lines += [
        f"| {measured.name} | {measured.size / 1000:.0f} | {measured.status} | {measured.seconds:.1f} "
        f"| {measured.computed_ms:.0f} | {measured.longest_ms:.0f} |"
        for measured in worst[:25]
    ]
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--only", multiple=True, help="Bodies whose name holds this; may be repeated.")
@click.option("--write/--no-write", default=False, help="Whether to write the page.")
def main(only: tuple[str, ...], write: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        identity = Identity(load_settings(overrides={"home": home}, environment={}).database_url)
        key = identity.create_key("silence").key
        identity.close()
        results: list[Silence] = []
        with gateway(home) as (port, pid):
            for name, hostile in bodies():
                if not only or any(word in name for word in only):
                    one = measure(name, hostile, port, pid, key)
                    results.append(one)
                    waits = f"{one.computed_ms:5.0f} of {one.longest_ms:5.0f} ms"
                    click.echo(f"{waits}  {one.status}  {one.seconds:6.1f} s  {name}", err=True)
    text = text_of(results)
    click.echo(text)
    if write:
        write_section(PAGE, "Event-loop latency", text)


if __name__ == "__main__":
    main()
