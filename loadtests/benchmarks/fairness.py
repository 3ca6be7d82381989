"""Two equal tenants, one of which floods: what the other notices, with the fair queue and without.

    python -m loadtests.benchmarks.fairness [--seconds 25] [--out docs/benchmarks/fairness.md]

The engine is a stand-in that queues as a real one does (`loadtests.tools.batch`), or, with `--gateway-url` and
`--home`, the one behind a running `signet serve`. Arrivals are Poisson, from a fixed seed; the gateway learns the
engine's limit by itself during the flood's first seconds, which are not counted.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import click
import uvloop

from loadtests.tools.figures import percentile
from loadtests.tools.processes import REPOSITORY, ProgramError, running
from loadtests.tools.prompts import MEDIUM, SHORT
from loadtests.tools.targets import free_port
from training.studies.sections import machine

WARM_UP_S = 12.0
BAR_TTFT, BAR_TOKENS = 1.3, 0.05
_TEXT = re.compile(rb'"content":\s*"[^"]')


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: requests per second of the polite tenant, answers' lengths, streams that keep the engine busy."""

    model: str
    polite_rate: float
    flood_factor: float
    tokens: tuple[int, int]
    backlog: int


@dataclass(slots=True)
class Seen:
    """One tenant's answers; times are of `time.perf_counter`."""

    ttfts: list[tuple[float, float]] = field(default_factory=list)
    token_times: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def p95_ms(self, since: float = 0.0) -> float:
        """The 95th percentile of the time to first token, of requests sent after `since`."""
        return 1000 * percentile([ttft for sent, ttft in self.ttfts if sent >= since], 95)

    def tokens(self, since: float, until: float) -> int:
        return sum(since <= at < until for at in self.token_times)


class Tenant:
    """A client with its own key."""

    def __init__(self, url: str, key: str, load: Load, seed: int) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._headers = {"authorization": f"Bearer {key}"}
        self._load = load
        self._random = random.Random(seed)
        self.seen = Seen()

    async def send_paced(self, session: aiohttp.ClientSession, rate: float, seconds: float) -> None:
        """Poisson arrivals; returns when the last is sent, and leaves what is open to be cancelled."""
        until, due, tasks = time.perf_counter() + seconds, time.perf_counter(), set[asyncio.Task[None]]()
        while (due := due + self._random.expovariate(rate)) < until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self._ask(session))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(max(0.0, until - time.perf_counter()))
        await _cancel(tasks)

    async def send_always(self, session: aiohttp.ClientSession, streams: int, seconds: float) -> None:
        """`streams` requests open at any time."""

        async def one_after_the_other() -> None:
            while True:
                await self._ask(session)

        tasks = {asyncio.create_task(one_after_the_other()) for _ in range(streams)}
        await asyncio.sleep(seconds)
        await _cancel(tasks)

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        load = self._load
        body = {
            "model": load.model,
            "messages": [{"role": "user", "content": self._random.choice((*SHORT, *MEDIUM))}],
            "stream": True,
            "max_tokens": self._random.randint(*load.tokens),
            "ignore_eos": True,
        }
        sent, first = time.perf_counter(), True
        try:
            async with session.post(self._url, json=body, headers=self._headers) as response:
                if response.status != 200:
                    self.seen.errors[json.loads(await response.read())["error"]["code"]] += 1
                    await asyncio.sleep(0.2)
                    return
                async for line in response.content:
                    if _TEXT.search(line):
                        now = time.perf_counter()
                        self.seen.token_times.append(now)
                        if first:
                            self.seen.ttfts.append((sent, now - sent))
                            first = False
        except aiohttp.ClientError as error:
            self.seen.errors[type(error).__name__] += 1


@dataclass(frozen=True, slots=True)
class Result:
    """What one gateway did to the polite tenant, and how it shared when both had work waiting."""

    name: str
    alone_ms: float
    flooded_ms: float
    shares: tuple[int, int]
    tokens_per_s: float
    refused: Mapping[str, int]

    @property
    def ratio(self) -> float:
        return self.flooded_ms / self.alone_ms

    @property
    def difference(self) -> float:
        """Of the tenants' tokens from the mean of both, as a share of it."""
        return abs(self.shares[0] - self.shares[1]) / sum(self.shares) if sum(self.shares) else math.nan

    def line(self) -> str:
        refused = ", ".join(f"{count} {code}" for code, count in self.refused.items()) or "none"
        return (
            f"| {self.name} | {self.alone_ms:.0f} | {self.flooded_ms:.0f} | **{self.ratio:.2f}** | "
            f"{self.shares[0]} / {self.shares[1]} | **{100 * self.difference:.1f}%** | {self.tokens_per_s:.0f} "
            f"| {refused} |"
        )


async def measure(name: str, url: str, keys: tuple[str, str], load: Load, seconds: float) -> Result:
    """The polite tenant alone, then beside a flood; then both with more than the engine can serve."""
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        alone = Tenant(url, keys[0], load, seed=1)
        await alone.send_paced(session, load.polite_rate, seconds)
        polite, flooding = Tenant(url, keys[0], load, seed=1), Tenant(url, keys[1], load, seed=2)
        flood = asyncio.create_task(
            flooding.send_paced(session, load.polite_rate * load.flood_factor, WARM_UP_S + seconds)
        )
        await asyncio.sleep(WARM_UP_S / 2)
        since = time.perf_counter() + WARM_UP_S / 2
        await polite.send_paced(session, load.polite_rate, WARM_UP_S / 2 + seconds)
        await flood
        # Unequal in number, equal in what they may have: one sends four times the requests of the other.
        first, second = Tenant(url, keys[0], load, seed=3), Tenant(url, keys[1], load, seed=4)
        begun = time.perf_counter()
        await asyncio.gather(
            first.send_always(session, load.backlog, seconds + 5),
            second.send_always(session, load.backlog * 4, seconds + 5),
        )
        shares = (first.seen.tokens(begun + 5, begun + 5 + seconds), second.seen.tokens(begun + 5, begun + 5 + seconds))
    refused = flooding.seen.errors + polite.seen.errors
    return Result(name, alone.seen.p95_ms(), polite.seen.p95_ms(since), shares, sum(shares) / seconds, dict(refused))


def markdown(results: list[Result], load: Load, engine: str, command: str) -> str:
    about = machine()
    return "\n".join(
        [
            f"`{command}`, {about['date']}; {about['cores']} cores ({about['cpu']}), Python {about['python']}, "
            f"load {about['load']}.",
            "",
            f"{engine} Answers of {load.tokens[0]} to {load.tokens[1]} tokens. The polite tenant sends "
            f"{load.polite_rate:g} requests a second, the other {load.flood_factor:g} times as many; then both keep "
            f"more open than the engine runs ({load.backlog} and {4 * load.backlog}).",
            "",
            "| | polite alone, p95 TTFT ms | beside the flood | ratio | tokens of both, backlogged "
            "| off the mean | tokens/s | refused |",
            "|---|---|---|---|---|---|---|---|",
            *(result.line() for result in results),
            "",
        ]
    )


def new_key(home: Path, tenant: str) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "signet", "keys", "create", "--tenant", tenant, "--json"],
        env={**os.environ, "SIGNET_HOME": str(home)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise ProgramError(f"`signet keys create` failed: {made.stderr.strip()}")
    return str(json.loads(made.stdout)["key"])


def against_standin(load: Load, seconds: float, max_running: int) -> list[Result]:
    """One run with the fair queue, one without, each with an engine and a gateway of its own."""
    results = []
    for name, enabled in (("fair queue", "true"), ("without", "false")):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            engine, port = free_port(), free_port()
            standin = [sys.executable, "-m", "loadtests.tools.standin", "--port", str(engine)]
            program = stack.enter_context(running("standin", [*standin, "--max-running", str(max_running)], folder))
            program.wait_ready(f"http://127.0.0.1:{engine}/health", {})
            keys = new_key(folder, "polite"), new_key(folder, "flooding")
            environment = {"SIGNET_HOME": str(folder), "SIGNET_GATEWAY__ADMISSION__ENABLED": enabled}
            gateway = [sys.executable, "-m", "signet", "gateway", "--port", str(port)]
            gateway += ["--engine-url", f"http://127.0.0.1:{engine}"]
            program = stack.enter_context(running("gateway", gateway, folder, env=environment))
            program.wait_ready(f"http://127.0.0.1:{port}/readyz/engines", {})
            click.echo(f"{name}: measuring for {4 * seconds:.0f} s", err=True)
            results.append(uvloop.run(measure(name, f"http://127.0.0.1:{port}", keys, load, seconds)))
    return results


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in (pending := list(tasks)):
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


@click.command()
@click.option("--seconds", default=25.0, show_default=True, help="Of each of the three measurements.")
@click.option("--rate", default=4.0, show_default=True, help="Requests a second of the polite tenant.")
@click.option("--tokens", type=(int, int), default=(40, 80), show_default=True, help="Shortest and longest answer.")
@click.option("--backlog", default=48, show_default=True, help="Streams that keep an engine more than busy.")
@click.option("--max-running", default=32, show_default=True, help="The stand-in's batch.")
@click.option("--gateway-url", help="A running gateway instead of a stand-in and a gateway of its own.")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="That gateway's SIGNET_HOME.")
@click.option("--model", default="standin", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Append what was measured to this file.")
def main(
    seconds: float,
    rate: float,
    tokens: tuple[int, int],
    backlog: int,
    max_running: int,
    gateway_url: str | None,
    home: Path | None,
    model: str,
    out: Path | None,
) -> None:
    """Measure what a flood of one tenant does to another."""
    load = Load(model, rate, 10.0, tokens, backlog)
    options = f"--seconds {seconds:g} --rate {rate:g} --tokens {tokens[0]} {tokens[1]} --backlog {backlog}"
    try:
        if gateway_url is None:
            results = against_standin(load, seconds, max_running)
            engine = f"A stand-in engine that runs {max_running} streams at once, 20 ms a step, and queues the others."
            options += f" --max-running {max_running}"
        elif home is not None:
            keys = new_key(home, "polite"), new_key(home, "flooding")
            results = [uvloop.run(measure("fair queue", gateway_url, keys, load, seconds))]
            engine = f"vLLM with {model}."
        else:
            raise click.UsageError("--gateway-url needs --home.")
    except ProgramError as error:
        raise click.ClickException(str(error)) from error
    text = markdown(results, load, engine, f"python -m loadtests.benchmarks.fairness {options}")
    click.echo(text)
    if out is not None:
        with out.open("a") as file:
            file.write("\n" + text)


if __name__ == "__main__":
    main()
