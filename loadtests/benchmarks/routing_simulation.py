"""Routing policies on simulated engines with prefix caches: hit rate, balance, queues. Deterministic; no network.

    python -m loadtests.benchmarks.routing_simulation --out docs/benchmarks/routing.md

The policy called "signet" is the gateway's own code (`serving.gateway.routing`), fed with request bodies as clients
send them. An engine reads prompts one after another at a fixed speed, skipping what its cache holds (blocks of 64
tokens, the least recently used evicted first), and then writes all its answers side by side.
"""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import click

from serving.gateway.engines.load import LoadEstimate
from serving.gateway.engines.seen import SeenPrefixes, blocks_for
from serving.gateway.routing.prompt import Prompt, read_prompt
from serving.gateway.routing.score import Placement, note_sent
from serving.gateway.settings.routing import RoutingSettings
from training.studies.sections import machine, write_section

SECTION = "Simulated"
CHARS_PER_TOKEN = 4
CACHE_BLOCK_CHARS = 256
# An 8B model on one data-centre GPU, roughly: 10,000 prompt tokens a second, 15 ms a step.
PREFILL_CHARS_PER_S = 40_000
STEP_S = 0.015
# So many answers being written slow reading down by half.
SLOWED_BY = 100
CACHE_TOKENS = 200_000
SCRAPE_S = 2.0
WORDS = "alpha bravo delta echo golf hotel india kilo lima mike november oscar papa quebec romeo".split()  # noqa: SIM905


@dataclass
class Request:
    """One question: when, what, and how long the answer will be."""

    at: float
    body: dict[str, Any]
    answer: str
    follow_up: Callable[[float], Request | None] = lambda _: None


@dataclass
class SimulatedEngine:
    """A prefix cache, a queue of prompts to read, answers being written."""

    name: str
    cache: dict[int, None] = field(default_factory=dict)
    in_flight: int = 0
    reads_until: float = 0.0
    answers: int = 0

    def read(self, now: float, blocks: Sequence[int], chars: int) -> tuple[int, float]:
        """Characters found in the cache, and when the prompt is read."""
        hits = 0
        for block in blocks:
            if block not in self.cache:
                break
            hits += 1
        cached = min(hits * CACHE_BLOCK_CHARS, chars)
        self.store(blocks)
        speed = PREFILL_CHARS_PER_S / (1 + self.in_flight / SLOWED_BY)
        self.reads_until = max(now, self.reads_until) + (chars - cached) / speed
        return cached, self.reads_until

    def store(self, blocks: Sequence[int]) -> None:
        for block in reversed(blocks):
            self.cache.pop(block, None)
            self.cache[block] = None
        while len(self.cache) > CACHE_TOKENS * CHARS_PER_TOKEN // CACHE_BLOCK_CHARS:
            del self.cache[next(iter(self.cache))]


class View:
    """One engine as one replica of the gateway sees it: its own answers now, others' as of the last scrape."""

    def __init__(self, engine: SimulatedEngine) -> None:
        self.engine = engine
        self.seed = hash((crc32(engine.name.encode()), 1))
        self.seen = SeenPrefixes(blocks_for(CACHE_TOKENS))
        self.estimate = LoadEstimate()
        self.pending_prefill_chars = 0

    @property
    def load(self) -> float:
        return self.estimate.total

    def read(self, chars: int) -> None:
        """An answer begins: its prompt is read."""
        self.pending_prefill_chars -= chars


Choose = Callable[[Sequence[View], Prompt | None], View]


def round_robin() -> Choose:
    turns = itertools.count()
    return lambda views, _: views[next(turns) % len(views)]


def least_loaded() -> Choose:
    turns = itertools.count()

    def choose(views: Sequence[View], _: Prompt | None) -> View:
        start = next(turns) % len(views)
        return min([*views[start:], *views[:start]], key=lambda view: view.load)

    return choose


def signet() -> Choose:
    placement = Placement(RoutingSettings())

    def choose(views: Sequence[View], prompt: Prompt | None) -> View:
        return placement.choose(views, prompt, None)

    return choose


POLICIES: dict[str, tuple[Callable[[], Choose], int]] = {
    "round robin": (round_robin, 1),
    "least loaded": (least_loaded, 1),
    "signet": (signet, 1),
    "signet, 4 replicas": (signet, 4),
}


@dataclass
class Outcome:
    """What one policy did with one workload."""

    hit_rate: float
    balance: float
    queue_p95_s: float
    ttft_p50_s: float
    ttft_p95_s: float


class Simulation:
    """Runs one workload under one policy."""

    def __init__(self, num_engines: int, make_policy: Callable[[], Choose], num_replicas: int, seed: int) -> None:
        self._engines = [SimulatedEngine(f"engine-{number}.models:8100") for number in range(num_engines)]
        self._replicas = [(make_policy(), [View(engine) for engine in self._engines]) for _ in range(num_replicas)]
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._ttfts: list[float] = []
        self._queues: list[float] = []
        self._chars = self._cached = 0
        self._open = 0

    def run(self, requests: Sequence[Request]) -> Outcome:
        for request in requests:
            self._arrive_later(request)
        for number, (_, views) in enumerate(self._replicas):
            self._at(SCRAPE_S * (number + 1) / len(self._replicas), partial(self._scrape, views))
        while self._events:
            now, _, event = heapq.heappop(self._events)
            event(now)
        answers = [engine.answers for engine in self._engines]
        return Outcome(
            hit_rate=self._cached / self._chars,
            balance=max(answers) / statistics.mean(answers),
            queue_p95_s=_quantile(self._queues, 0.95),
            ttft_p50_s=_quantile(self._ttfts, 0.5),
            ttft_p95_s=_quantile(self._ttfts, 0.95),
        )

    def _at(self, when: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def _arrive_later(self, request: Request) -> None:
        self._open += 1
        self._at(request.at, lambda now: self._arrive(now, request))

    def _scrape(self, views: list[View], now: float) -> None:
        for view in views:
            view.estimate.heard(view.engine.in_flight, view.estimate.own)
        if self._open:
            self._at(now + SCRAPE_S, partial(self._scrape, views))

    def _arrive(self, now: float, request: Request) -> None:
        choose, views = self._random.choice(self._replicas)
        prompt = read_prompt(request.body)
        view = choose(views, prompt)
        uncached_chars = note_sent(view, prompt)
        engine = view.engine
        text = _text(request.body)
        queue = max(0.0, engine.reads_until - now)
        cached, prefilled_at = engine.read(now, _blocks(text), len(text))
        self._chars += len(text)
        self._cached += cached
        self._ttfts.append(prefilled_at - now)
        self._queues.append(queue)
        engine.in_flight += 1
        engine.answers += 1
        view.estimate.own += 1
        view.pending_prefill_chars += uncached_chars
        self._at(prefilled_at, lambda _: view.read(uncached_chars))
        written_at = prefilled_at + len(request.answer) / CHARS_PER_TOKEN * STEP_S
        self._at(written_at, lambda then: self._finish(then, request, view, text))

    def _finish(self, now: float, request: Request, view: View, text: str) -> None:
        view.engine.in_flight -= 1
        view.estimate.own -= 1
        view.engine.store(_blocks(text + _part("assistant", request.answer)))
        self._open -= 1
        following = request.follow_up(now)
        if following is not None:
            self._arrive_later(following)


def conversations(rng: random.Random, count: int, per_s: float) -> Iterator[Request]:
    """Chats of up to eight turns with one system prompt of 2 KB; the history is sent again with each turn."""
    system = _words(rng, 2048)
    at = 0.0
    for _ in range(count):
        at += rng.expovariate(per_s)
        yield _turn(rng, at, [{"role": "system", "content": system}], rng.randint(2, 8))


def _turn(rng: random.Random, at: float, before: list[dict[str, str]], left: int) -> Request:
    messages = [*before, {"role": "user", "content": _words(rng, rng.randint(100, 1500))}]
    answer = _words(rng, rng.randint(200, 1600))

    def follow_up(now: float) -> Request | None:
        if left <= 1:
            return None
        history = [*messages, {"role": "assistant", "content": answer}]
        return _turn(rng, now + rng.expovariate(1 / 10), history, left - 1)

    return Request(at, {"messages": messages}, answer, follow_up)


def many_system_prompts(rng: random.Random, count: int, per_s: float) -> Iterator[Request]:
    """Single questions below one of 200 system prompts of 8 KB, used as often as words are (Zipf)."""
    systems = [_words(rng, 8192) for _ in range(200)]
    weights = [1 / (rank + 1) for rank in range(len(systems))]
    at = 0.0
    for system in rng.choices(systems, weights, k=count):
        at += rng.expovariate(per_s)
        yield _question(rng, at, system)


def one_system_prompt(rng: random.Random, count: int, per_s: float) -> Iterator[Request]:
    """Single questions below one system prompt of 16 KB: what tempts a router to use one engine only."""
    system = _words(rng, 16384)
    at = 0.0
    for _ in range(count):
        at += rng.expovariate(per_s)
        yield _question(rng, at, system)


def _question(rng: random.Random, at: float, system: str) -> Request:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": _words(rng, rng.randint(80, 400))}]
    return Request(at, {"messages": messages}, _words(rng, rng.randint(100, 800)))


# Arrivals a second are for eight engines, at which round robin keeps up, but not by much.
WORKLOADS: dict[str, tuple[Callable[[random.Random, int, float], Iterator[Request]], int, float]] = {
    "conversations": (conversations, 1500, 10.0),
    "many system prompts": (many_system_prompts, 6000, 34.0),
    "one system prompt": (one_system_prompt, 6000, 60.0),
}


def simulate(workload: str, policy: str, num_engines: int = 8, seed: int = 1, scale: float = 1.0) -> Outcome:
    """One workload under one policy; `scale` makes it shorter."""
    make, count, per_s = WORKLOADS[workload]
    make_policy, num_replicas = POLICIES[policy]
    requests = list(make(random.Random(seed), round(count * scale), per_s * num_engines / 8))
    return Simulation(num_engines, make_policy, num_replicas, seed).run(requests)


def page(outcomes: dict[str, dict[str, list[Outcome]]], num_engines: int, command: str) -> str:
    """The report in Markdown: medians over the seeds."""
    num_seeds = len(next(iter(next(iter(outcomes.values())).values())))
    lines = [
        f"`{command}`, {machine()['date']}; the machine does not matter.",
        f"{num_engines} engines, each with room for {CACHE_TOKENS:,} tokens in its prefix cache; medians of "
        f"{num_seeds} seeds.",
        "How engines behave there: the head of "
        "[routing_simulation.py](../../loadtests/benchmarks/routing_simulation.py).",
    ]
    for workload, policies in outcomes.items():
        described = " ".join((WORKLOADS[workload][0].__doc__ or "").split())
        lines += [
            "",
            f"### {workload.capitalize()}",
            "",
            described,
            "",
            "| policy | hit rate | busiest ÷ mean engine | p95 wait in the queue, s | TTFT p50 / p95, s |",
            "|---|---|---|---|---|",
        ]
        for policy, runs in policies.items():
            figures = (f"{_median(runs, name):.2f}" for name in ("hit_rate", "balance", "queue_p95_s"))
            ttft = f"{_median(runs, 'ttft_p50_s'):.2f} / {_median(runs, 'ttft_p95_s'):.2f}"
            lines.append(f"| {policy} | {' | '.join(figures)} | {ttft} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--engines", "num_engines", default=8, show_default=True, help="Simulated engines.")
@click.option("--seeds", default=3, show_default=True, help="Runs of each, of which the median is reported.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result into this page's section.")
def main(num_engines: int, seeds: int, out: Path | None) -> None:
    """Compare routing policies on simulated engines."""
    outcomes = {
        workload: {
            policy: [simulate(workload, policy, num_engines, seed) for seed in range(1, seeds + 1)]
            for policy in POLICIES
        }
        for workload in WORKLOADS
    }
    text = page(
        outcomes, num_engines, "python -m loadtests.benchmarks.routing_simulation --out docs/benchmarks/routing.md"
    )
    if out is None:
        click.echo(text, nl=False)
    else:
        write_section(out, SECTION, text)


def _words(rng: random.Random, chars: int) -> str:
    return " ".join(rng.choices(WORDS, k=chars // 5 + 1))[:chars]


def _part(role: str, content: str) -> str:
    return f"<{role}>{content}"


def _text(body: dict[str, Any]) -> str:
    return "".join(_part(message["role"], message["content"]) for message in body["messages"])


def _blocks(text: str) -> list[int]:
    data = text.encode()
    chain, last = [], 0
    # Only full blocks are cached, as in vLLM.
    for start in range(0, len(data) - CACHE_BLOCK_CHARS + 1, CACHE_BLOCK_CHARS):
        last = hash((last, crc32(data[start : start + CACHE_BLOCK_CHARS])))
        chain.append(last)
    return chain


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _median(runs: Sequence[Outcome], name: str) -> float:
    return float(statistics.median(getattr(run, name) for run in runs))


if __name__ == "__main__":
    main()
