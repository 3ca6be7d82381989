"""`kill -9` of one of two engines under load, again and again: no answer may be lost, repeated, hung or billed twice.

    python -m loadtests.faults.kill_engine [--kills 50] [--out docs/benchmarks/faults.md]

Two stand-in engines that speak token ids, a gateway with everything on, and clients that stream and clients that do
not. Every text is compared with the one that an undisturbed engine gives; at the end the ledger must hold one row for
each request, with the tokens of its answer. Exits 1 where anything is amiss.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import tempfile
import urllib.request
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import click

from loadtests.tools.answers import answer_text
from loadtests.tools.processes import Program, ProgramError, running
from loadtests.tools.targets import free_port, signet_gateway
from training.studies.sections import write_section

STEP_MS = 20
NUM_TOKENS = (20, 60, 150)
ANSWER_TIMEOUT_S = 60.0
SECTION = "Engine killed"


@dataclass(slots=True)
class Seen:
    """What the clients saw, and what each request should have cost."""

    outcomes: Counter[str] = field(default_factory=Counter)
    expected_tokens: dict[str, int] = field(default_factory=dict)
    stopping: bool = False


async def client(url: str, headers: dict[str, str], number: int, seen: Seen) -> None:
    """Asks again and again until it is told to stop; every fourth client does not stream."""
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(ANSWER_TIMEOUT_S)) as session:
        while not seen.stopping:
            try:
                await (whole(session, url, seen) if number % 4 == 0 else stream(session, url, number, seen))
            except TimeoutError:
                seen.outcomes["hung"] += 1
            except aiohttp.ClientError as error:
                seen.outcomes[f"lost: {type(error).__name__}"] += 1
            await asyncio.sleep(0.02 if number % 4 == 0 else 0)


async def stream(session: aiohttp.ClientSession, url: str, number: int, seen: Seen) -> None:
    num_tokens = NUM_TOKENS[number % len(NUM_TOKENS)]
    body = {**_QUESTION, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": num_tokens}
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        told = (await answer.read()).decode()
        seen.expected_tokens[answer.headers["x-request-id"]] = num_tokens
    seen.outcomes[judge(told, num_tokens)] += 1


async def whole(session: aiohttp.ClientSession, url: str, seen: Seen) -> None:
    async with session.post(f"{url}/v1/chat/completions", json=_QUESTION) as answer:
        told = await answer.read()
        good = answer.status == 200 and json.loads(told)["choices"][0]["finish_reason"] == "stop"
        seen.expected_tokens[answer.headers["x-request-id"]] = 24
    seen.outcomes["whole answers" if good else f"lost: whole answer, {answer.status}"] += 1


def judge(told: str, num_tokens: int) -> str:
    """What became of a stream."""
    if not told.endswith("data: [DONE]\n\n"):
        return "lost: stream"
    events = [json.loads(event.removeprefix("data: ")) for event in told.split("\n\n")[:-2]]
    choices = [choice for event in events for choice in event["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    roles = sum("role" in choice["delta"] for choice in choices)
    usage = [event["usage"]["completion_tokens"] for event in events if event.get("usage")]
    if text != answer_text(num_tokens):
        return "wrong: text repeated or missing"
    if roles != 1 or [c["finish_reason"] for c in choices if c["finish_reason"]] != ["length"]:
        return "wrong: role or finish reason"
    if usage != [num_tokens] or len({event["id"] for event in events}) != 1:
        return "wrong: usage or id"
    return "streams"


class Engines:
    """Two stand-ins; one can be killed and comes back at the same port."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.ports = [free_port(), free_port()]
        self._programs = [self._start(number) for number in (0, 1)]

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def kill(self, number: int) -> None:
        self._programs[number].process.kill()
        self._programs[number].process.wait()

    def restart(self, number: int) -> None:
        self._programs[number] = self._start(number)

    def _start(self, number: int) -> Program:
        port = self.ports[number]
        command = [sys.executable, "-m", "loadtests.tools.standin", "--port", str(port), "--step-ms", str(STEP_MS)]
        program = self._stack.enter_context(running(f"engine {number}", command, self._folder))
        program.wait_ready(f"http://127.0.0.1:{port}/health", {})
        return program


async def campaign(engines: Engines, url: str, headers: dict[str, str], num_kills: int, num_clients: int) -> Seen:
    """Load the gateway while its engines are killed in turn; each is back before the other one dies."""
    seen = Seen()
    async with asyncio.TaskGroup() as group:
        for number in range(num_clients):
            group.create_task(client(url, headers, number, seen))
        for kill in range(num_kills):
            # Not in step with the tokens: every kill meets the streams somewhere else.
            await asyncio.sleep(0.4 + 0.013 * (kill % 17))
            await asyncio.to_thread(engines.kill, kill % 2)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(engines.restart, kill % 2)
            await _all_up(url)
        seen.stopping = True
    return seen


async def _all_up(url: str) -> None:
    for _ in range(200):
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode())
        ups = [line for line in text.splitlines() if line.startswith("signet_gateway_engine_up{")]
        if len(ups) == 2 and all(line.endswith(" 1.0") for line in ups):
            return
        await asyncio.sleep(0.05)
    raise ProgramError("the gateway does not see an engine that was started again")


def check_ledger(database: Path, seen: Seen) -> tuple[Counter[str], int]:
    """What is wrong with the ledger, and how many answers it says were continued."""
    wrong: Counter[str] = Counter()
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("select request_id, completion_tokens, continued from requests").fetchall()
    times = Counter(request_id for request_id, _, _ in rows)
    for request_id in seen.expected_tokens:
        if times[request_id] != 1:
            wrong["billed twice" if times[request_id] else "not in the ledger"] += 1
    for request_id, tokens, _ in rows:
        if tokens != seen.expected_tokens.get(request_id, tokens):
            wrong["wrong number of tokens"] += 1
    return wrong, sum(continued > 0 for _, _, continued in rows)


@click.command()
@click.option("--kills", default=50, show_default=True)
@click.option("--clients", default=48, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result into this page's section.")
def main(kills: int, clients: int, out: Path | None) -> None:
    """Kill one of two engines under load, again and again."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engines = Engines(folder, stack)
        target = signet_gateway(engines.urls[0], folder)
        env = {**target.env, "SIGNET_GATEWAY__PROBE_INTERVAL_S": "0.2"}
        command = [*target.command, "--engine-url", engines.urls[1]]
        gateway = stack.enter_context(running("signet", command, folder, env=env))
        gateway.wait_ready(target.url + "/readyz/engines", {})
        seen = asyncio.run(campaign(engines, target.url, dict(target.headers), kills, clients))
        wrong, num_continued = check_ledger(folder / "signet-home" / "signet.db", seen)
    text = report(kills, clients, seen, wrong, num_continued)
    click.echo(text)
    if out is not None:
        write_section(out, SECTION, text)
    if wrong or any(name.startswith(("lost", "wrong", "hung")) for name in seen.outcomes) or not num_continued:
        sys.exit(1)


def report(kills: int, clients: int, seen: Seen, wrong: Counter[str], num_continued: int) -> str:
    """The result as a section of a page."""
    lost = sum(count for name, count in seen.outcomes.items() if name.startswith("lost"))
    bad = sum(count for name, count in seen.outcomes.items() if name.startswith("wrong"))
    amiss = ", ".join(f"{name}: {count}" for name, count in (seen.outcomes + wrong).items()) if lost or bad else ""
    return f"""`python -m loadtests.faults.kill_engine --kills {kills} --clients {clients}`,
{datetime.now(UTC):%Y-%m-%d}: two stand-in engines with a token every {STEP_MS} ms, killed in turn with SIGKILL.

| | |
|---|---|
| kills | {kills} |
| streams, every text compared | {seen.outcomes["streams"]:,} |
| of them continued on the other engine | {num_continued:,} |
| whole answers | {seen.outcomes["whole answers"]:,} |
| lost | {lost} |
| repeated, missing or otherwise wrong | {bad} |
| hung | {seen.outcomes["hung"]} |
| billed twice | {wrong["billed twice"]} |
| not in the ledger, or with other tokens | {wrong["not in the ledger"] + wrong["wrong number of tokens"]} |
{amiss}"""


_QUESTION = {"model": "standin", "messages": [{"role": "user", "content": "Tell me about the river."}]}

if __name__ == "__main__":
    try:
        main()
    except ProgramError as error:
        sys.exit(f"Error: {error}")
