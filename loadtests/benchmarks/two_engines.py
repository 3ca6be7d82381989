"""What prefix-aware routing does to the time to first token of two real engines.

    python -m loadtests.benchmarks.two_engines --out docs/benchmarks/routing.md

Starts two `signet engine` on one core each and a gateway, and asks several questions about each of a few long
documents, two at a time. Once by load alone, which with so few requests is round robin, and once with prefixes; both
again in the other order, each time with documents that no engine has seen.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import click

from loadtests.tools.answers import PROSE
from loadtests.tools.figures import percentile
from loadtests.tools.processes import REPOSITORY, Program, ProgramError, running
from loadtests.tools.targets import free_port, signet_gateway
from training.studies.sections import machine, write_section

SECTION = "Two real engines"
# About 1,200 tokens of the small model's 2,048.
DOCUMENT_WORDS = 850
START_TIMEOUT_S = 300.0
POLICIES = ("by load alone", "with prefixes")


@dataclass
class Seen:
    """Of one policy: times to first token in seconds, and what the engines' prefix caches held of the prompts."""

    first_s: list[float] = field(default_factory=list)
    later_s: list[float] = field(default_factory=list)
    queried: float = 0.0
    hit: float = 0.0

    @property
    def all_s(self) -> list[float]:
        return self.first_s + self.later_s


@click.command()
@click.option("--documents", default=6, show_default=True, help="Documents a round.")
@click.option("--questions", default=4, show_default=True, help="Questions about each.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result into this page's section.")
def main(documents: int, questions: int, out: Path | None) -> None:
    """Compare times to first token with and without prefix-aware routing."""
    home = REPOSITORY / ".signet" / "bench-stack"
    home.mkdir(parents=True, exist_ok=True)
    seen = {policy: Seen() for policy in POLICIES}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engines = _start_engines(home, folder, stack)
        for number, policy in enumerate((*POLICIES, *reversed(POLICIES))):
            _round(
                engines, folder / f"round-{number}", policy, documents, questions, seen[policy], random.Random(number)
            )
    text = report(seen, documents, questions)
    click.echo(text)
    if out is not None:
        write_section(out, SECTION, text)


def report(seen: dict[str, Seen], documents: int, questions: int) -> str:
    """The result as a section of a page."""
    about = machine()
    lines = [
        f"`python -m loadtests.benchmarks.two_engines --documents {documents} --questions {questions}`, "
        f"{about['date']}; {about['cores']} cores ({about['cpu']}), load {about['load']}. Two vLLM engines "
        f"with the default model, one core each; {2 * documents} documents of {DOCUMENT_WORDS} words, {questions} "
        "questions about each, two at a time.",
        "",
        "| policy | TTFT p50 / mean / p90, s | first question | later questions, mean | prompt tokens from the cache |",
        "|---|---|---|---|---|",
    ]
    for policy, one in seen.items():
        times = one.all_s
        lines.append(
            f"| {policy} | {percentile(times, 50):.2f} / {statistics.mean(times):.2f} / {percentile(times, 90):.2f} "
            f"| {statistics.mean(one.first_s):.2f} | {statistics.mean(one.later_s):.2f} | {one.hit / one.queried:.0%} |"
        )
    return "\n".join(lines) + "\n"


def _start_engines(home: Path, folder: Path, stack: ExitStack) -> list[str]:
    signet = [sys.executable, "-m", "signet", "engine"]
    env = {"SIGNET_HOME": str(home)}
    # Made once, not by both at the same time.
    subprocess.run([*signet, "--prepare-only"], env={**os.environ, **env}, cwd=REPOSITORY, check=True)
    urls, programs = [], list[Program]()
    for core in (0, 1):
        port = free_port()
        pinned = {**env, "SIGNET_ENGINE__CPU_THREADS_BIND": str(core)}
        programs.append(
            stack.enter_context(running(f"engine {core}", [*signet, "--port", str(port)], folder, env=pinned))
        )
        urls.append(f"http://127.0.0.1:{port}")
    for url, program in zip(urls, programs, strict=True):
        program.wait_ready(f"{url}/health", {}, START_TIMEOUT_S)
    return urls


def _round(
    engines: list[str], folder: Path, policy: str, documents: int, questions: int, seen: Seen, rng: random.Random
) -> None:
    folder.mkdir()
    target = signet_gateway(engines[0], folder)
    env = {**target.env, "SIGNET_GATEWAY__ROUTING": f'{{"prefix": {str(policy == POLICIES[1]).lower()}}}'}
    before = [_prefix_counts(url) for url in engines]
    with running("gateway", [*target.command, "--engine-url", engines[1]], folder, env=env) as gateway:
        gateway.wait_ready(f"{target.url}/readyz/engines", {})
        _wait_for_both(target.url)
        asyncio.run(_ask_all(target.url, dict(target.headers), documents, questions, seen, rng))
    for url, (queried, hit) in zip(engines, before, strict=True):
        now = _prefix_counts(url)
        seen.queried += now[0] - queried
        seen.hit += now[1] - hit


async def _ask_all(
    url: str, headers: dict[str, str], documents: int, questions: int, seen: Seen, rng: random.Random
) -> None:
    texts = [" ".join(rng.choices(PROSE.split(), k=DOCUMENT_WORDS)) for _ in range(documents)]
    # Every document once, then the questions in any order: as many users read a few documents.
    later = [(text, number) for text in texts for number in range(1, questions)]
    rng.shuffle(later)
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"{url}/v1/models") as answer:
            model = (await answer.json())["data"][0]["id"]
        for asked, times in (([(text, 0) for text in texts], seen.first_s), (later, seen.later_s)):
            waiting = iter(asked)

            async def client(waiting: Any = waiting, times: list[float] = times) -> None:
                for text, number in waiting:
                    times.append(await _ttft(session, url, model, text, number))

            await asyncio.gather(client(), client())


async def _ttft(session: aiohttp.ClientSession, url: str, model: str, text: str, number: int) -> float:
    messages = [
        {"role": "system", "content": f"Answer from this document. {text}"},
        {"role": "user", "content": f"Question {number}: what is it about?"},
    ]
    body = {"model": model, "messages": messages, "stream": True, "max_tokens": 8, "ignore_eos": True, "temperature": 0}
    started = time.perf_counter()
    first: float | None = None
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        if answer.status != 200:
            raise ProgramError(f"the gateway answered {answer.status}: {(await answer.text())[:200]}")
        async for line in answer.content:
            if first is None and b'"content":"' in line.replace(b": ", b":") and b'"content":""' not in line:
                first = time.perf_counter() - started
    if first is None:
        raise ProgramError("a stream ended without text")
    return first


def _prefix_counts(engine: str) -> tuple[float, float]:
    """Prompt tokens that the engine has looked up in its prefix cache, and those that it found."""
    counts = {"vllm:prefix_cache_queries_total": 0.0, "vllm:prefix_cache_hits_total": 0.0}
    for line in _read(f"{engine}/metrics").splitlines():
        name = line.partition("{")[0]
        if name in counts:
            counts[name] += float(line.rpartition(" ")[2])
    return counts["vllm:prefix_cache_queries_total"], counts["vllm:prefix_cache_hits_total"]


def _wait_for_both(gateway: str) -> None:
    for _ in range(200):
        lines = _read(f"{gateway}/metrics").splitlines()
        if sum(line.startswith("signet_gateway_engine_up{") and line.endswith(" 1.0") for line in lines) == 2:
            return
        time.sleep(0.05)
    raise ProgramError("the gateway does not see both engines")


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


if __name__ == "__main__":
    try:
        main()
    except ProgramError as error:
        sys.exit(f"Error: {error}")
