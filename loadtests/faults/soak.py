"""Hours of mixed load in minutes: does anything grow that should not?

    python -m loadtests.faults.soak [--minutes 5] [--out docs/benchmarks/soak.md]

Whole answers, streams, clients that leave in the middle, refused requests and bad ones, all the time, through a gateway
with everything on. Memory, open files and open requests are sampled each second; the second half must not lie above
the first by more than `--growth`, and at the end nothing may be left open. Exits 1 when it does.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import click

from loadtests.tools.processes import Program, ProgramError, running
from loadtests.tools.targets import free_port, signet_gateway

STREAM_CHUNKS = 64
# Caches fill and pools grow to the load's size before anything is compared.
WARM_UP_SHARE = 0.2


@dataclass(slots=True)
class Samples:
    """One value a second of each."""

    rss_mib: list[float] = field(default_factory=list)
    open_files: list[float] = field(default_factory=list)
    in_flight: list[float] = field(default_factory=list)

    def take(self, program: Program, metrics_url: str) -> None:
        pid = program.process.pid
        self.rss_mib.append(_rss_mib(pid))
        self.open_files.append(len(os.listdir(f"/proc/{pid}/fd")))
        self.in_flight.append(metric(metrics_url, "signet_gateway_in_flight"))


@dataclass(slots=True)
class Load:
    """Clients of every kind; each coroutine is one that comes back until it is told to stop."""

    url: str
    headers: dict[str, str]
    counts: dict[str, int] = field(default_factory=dict)
    stopping: bool = False

    async def run(self, seconds: float) -> None:
        kinds: Sequence[tuple[int, Callable[[aiohttp.ClientSession], Awaitable[str]]]] = (
            (16, self._whole),
            (16, self._stream),
            (8, self._leave),
            (2, self._bad),
            (2, self._unknown_key),
        )
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector, headers=self.headers) as session,
            asyncio.TaskGroup() as group,
        ):
            for number, kind in kinds:
                for _ in range(number):
                    group.create_task(self._again(kind, session))
            await asyncio.sleep(seconds)
            self.stopping = True

    async def _again(
        self, kind: Callable[[aiohttp.ClientSession], Awaitable[str]], session: aiohttp.ClientSession
    ) -> None:
        while not self.stopping:
            try:
                outcome = await kind(session)
            except aiohttp.ClientError as error:
                outcome = f"failed: {type(error).__name__}"
            self.counts[outcome] = self.counts.get(outcome, 0) + 1

    async def _whole(self, session: aiohttp.ClientSession) -> str:
        async with session.post(f"{self.url}/v1/chat/completions", json=_chat("Write to anna@example.com.")) as answer:
            await answer.read()
            return f"whole {answer.status}"

    async def _stream(self, session: aiohttp.ClientSession) -> str:
        body = _chat("Tell me about rivers.", stream=True, max_tokens=STREAM_CHUNKS)
        async with session.post(f"{self.url}/v1/chat/completions", json=body) as answer:
            text = await answer.read()
            return "stream complete" if text.endswith(b"data: [DONE]\n\n") else "stream cut"

    async def _leave(self, session: aiohttp.ClientSession) -> str:
        body = _chat("Go on and on.", stream=True, max_tokens=2000)
        async with session.post(f"{self.url}/v1/chat/completions", json=body) as answer:
            await answer.content.read(500)
            answer.close()
            return "left"

    async def _bad(self, session: aiohttp.ClientSession) -> str:
        async with session.post(f"{self.url}/v1/chat/completions", data=b'{"model": "standin", "mess') as answer:
            await answer.read()
            return f"bad {answer.status}"

    async def _unknown_key(self, session: aiohttp.ClientSession) -> str:
        headers = {"authorization": f"Bearer sk-signet-{os.urandom(8).hex()}"}
        async with session.post(f"{self.url}/v1/chat/completions", json=_chat("Hi."), headers=headers) as answer:
            await answer.read()
            return f"unknown key {answer.status}"


def metric(url: str, name: str) -> float:
    """The sum of a metric's samples."""
    with urllib.request.urlopen(url, timeout=10) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def growth(values: Sequence[float]) -> float:
    """How far the median of the second half lies above that of the first, as a ratio; the warm-up is left out."""
    warm = values[int(len(values) * WARM_UP_SHARE) :]
    half = len(warm) // 2
    return statistics.median(warm[half:]) / statistics.median(warm[:half])


async def soak(url: str, headers: dict[str, str], gateway: Program, seconds: float) -> tuple[Samples, Load]:
    """Load the gateway for so long, then wait until nothing is open any more."""
    samples, load = Samples(), Load(url, headers)
    running_load = asyncio.create_task(load.run(seconds))
    while not running_load.done():
        await asyncio.to_thread(samples.take, gateway, f"{url}/metrics")
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(running_load), 1.0)
    await running_load
    for _ in range(100):
        if await asyncio.to_thread(metric, f"{url}/metrics", "signet_gateway_in_flight") == 0:
            break
        await asyncio.sleep(0.1)
    await asyncio.to_thread(samples.take, gateway, f"{url}/metrics")
    return samples, load


@click.command()
@click.option("--minutes", default=5.0, show_default=True)
@click.option("--growth", "allowed", default=1.05, show_default=True, help="Second half ÷ first half, at the most.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result there.")
def main(minutes: float, allowed: float, out: Path | None) -> None:
    """Load a gateway with everything for a while and see whether it stays as it is."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        engine = stack.enter_context(
            running(
                "stand-in",
                [sys.executable, "-m", "loadtests.tools.standin", "--port", str(port), "--step-ms", "5"],
                folder,
            )
        )
        engine.wait_ready(f"http://127.0.0.1:{port}/v1/models", {})
        target = signet_gateway(f"http://127.0.0.1:{port}", folder)
        gateway = stack.enter_context(running("signet", target.command, folder, env=target.env))
        gateway.wait_ready(target.url + "/readyz/engines", {})
        samples, load = asyncio.run(soak(target.url, dict(target.headers), gateway, minutes * 60))
    ratios = {"memory": growth(samples.rss_mib), "open files": growth(samples.open_files)}
    left_open = samples.in_flight[-1]
    flat = all(ratio <= allowed for ratio in ratios.values()) and left_open == 0
    text = _report(minutes, samples, load, ratios, left_open, flat)
    click.echo(text)
    if out is not None:
        out.write_text(text)
    if not flat or any(name.startswith("failed") or name == "stream cut" for name in load.counts):
        sys.exit(1)


def _report(
    minutes: float, samples: Samples, load: Load, ratios: dict[str, float], left_open: float, flat: bool
) -> str:
    counts = "\n".join(f"| {name} | {count:,} |" for name, count in sorted(load.counts.items()))
    return f"""# Soak

`python -m loadtests.faults.soak --minutes {minutes:g}`, {datetime.now(UTC):%Y-%m-%d}.
Medians of samples taken each second.

| | start | end | second half ÷ first |
|---|---|---|---|
| memory, MiB | {samples.rss_mib[0]:.0f} | {samples.rss_mib[-1]:.0f} | {ratios["memory"]:.3f} |
| open files | {samples.open_files[0]:.0f} | {samples.open_files[-1]:.0f} | {ratios["open files"]:.3f} |

Requests still open at the end: {left_open:.0f}. {"Flat." if flat else "**Not flat.**"}

| what clients did and saw | times |
|---|---|
{counts}
"""


def _chat(text: str, **more: object) -> dict[str, object]:
    return {"model": "standin", "messages": [{"role": "user", "content": text}], **more}


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    try:
        main()
    except ProgramError as error:
        sys.exit(f"Error: {error}")
