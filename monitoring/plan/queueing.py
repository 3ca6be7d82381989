"""One engine under a load: requests that come at random, read as vLLM's scheduler reads them, step by step.

Every step gives each open answer a token and fills what is left of its tokens with prompts, first come, first served.
Equal steps in a row are taken at once, so an hour of traffic takes a fraction of a second.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from monitoring.plan.roofline import Roofline

# The first fifth is left out: the engine fills.
_WARM_UP = 0.2


@dataclass(frozen=True, slots=True)
class Load:
    """What comes."""

    requests_per_s: float
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine may hold."""

    answers: int
    """Open at once: what its cache holds, and vLLM's `max_num_seqs`."""
    step_tokens: int


@dataclass(frozen=True, slots=True)
class Served:
    """What those who asked see. Seconds."""

    ttft_p50_s: float
    ttft_p95_s: float
    inter_token_p50_s: float
    inter_token_p95_s: float
    """Of requests, each one's mean between two tokens."""
    gap_p99_s: float
    """Of single gaps: a prompt that is read holds the other answers up."""
    answers_mean: float
    """Open at once while any is."""
    answers_p95: int
    busy: float
    """Share of the time in which the engine works."""


class _Answer(NamedTuple):
    """One that is being written."""

    last_step: int
    began: float


@dataclass(slots=True)
class _Request:
    """One that waits, or whose prompt is being read."""

    came: float
    left: int


def serve(engine: Roofline, load: Load, limits: Limits, requests: int = 1_000, seed: int = 1) -> Served:
    """Simulate `requests` that come as a Poisson process. The same seed gives the same gaps at every rate, scaled."""
    random = Random(seed)  # noqa: S311 (simulated arrivals)
    arrivals, at = deque[float](), 0.0
    for _ in range(requests):
        at += random.expovariate(1.0) / load.requests_per_s
        arrivals.append(at)
    return _Engine(engine, load, limits, arrivals).run()


class _Engine:
    """State of the simulated engine. All answers are equally long, so they end in the order in which they began."""

    def __init__(self, engine: Roofline, load: Load, limits: Limits, arrivals: deque[float]) -> None:
        self._engine, self._load, self._limits, self._arrivals = engine, load, limits, arrivals
        self._context = load.prompt_tokens + load.answer_tokens / 2
        self._skipped = int(len(arrivals) * _WARM_UP)
        self._now = self._worked = 0.0
        self._steps = 0
        self._waiting: deque[_Request] = deque()
        self._answers: deque[_Answer] = deque()
        self._ttfts: list[float] = []
        self._means: list[float] = []
        # Each with how often, or for how long.
        self._gaps: list[tuple[float, float]] = []
        self._open: list[tuple[float, float]] = []

    def run(self) -> Served:
        while self._arrivals or self._waiting or self._answers:
            while self._arrivals and self._arrivals[0] <= self._now:
                self._waiting.append(_Request(self._arrivals.popleft(), self._load.prompt_tokens))
            if self._waiting or self._answers:
                self._step()
            else:
                self._now = self._arrivals[0]
        ttfts, means = self._ttfts[self._skipped :], self._means[self._skipped :]
        return Served(
            ttft_p50_s=_percentile(((value, 1) for value in ttfts), 50),
            ttft_p95_s=_percentile(((value, 1) for value in ttfts), 95),
            inter_token_p50_s=_percentile(((value, 1) for value in means), 50),
            inter_token_p95_s=_percentile(((value, 1) for value in means), 95),
            gap_p99_s=_percentile(self._gaps, 99),
            answers_mean=sum(answers * time for answers, time in self._open) / sum(time for _, time in self._open),
            answers_p95=int(_percentile(self._open, 95)),
            busy=self._worked / self._now,
        )

    def _step(self) -> None:
        """One step that reads prompts, or as many without as nothing changes in."""
        answers = len(self._answers)
        prompt, before, read, complete = self._read_prompts()
        seconds, steps = self._engine.step_s(answers, self._context, prompt, before), 1
        if not prompt:
            steps = self._answers[0].last_step - self._steps
            if self._arrivals and answers < self._limits.answers:
                steps = min(steps, max(math.ceil((self._arrivals[0] - self._now) / seconds), 1))
        self._now += steps * seconds
        self._worked += steps * seconds
        self._steps += steps
        if len(self._ttfts) >= self._skipped:
            self._gaps.append((seconds, steps * answers))
            self._open.append((answers + read, steps * seconds))
        for request in complete:
            self._ttfts.append(self._now - request.came + self._engine.efficiency.request_s)
            self._answers.append(_Answer(self._steps + self._load.answer_tokens - 1, self._now))
        while self._answers and self._answers[0].last_step <= self._steps:
            began = self._answers.popleft().began
            self._means.append((self._now - began) / max(self._load.answer_tokens - 1, 1))

    def _read_prompts(self) -> tuple[int, float, int, list[_Request]]:
        """Tokens of prompts in this step, the mean before each, of how many requests, and those that are then read."""
        left, before, read = self._limits.step_tokens - len(self._answers), 0.0, 0
        prompt, complete = 0, []
        for request in self._waiting:
            if left <= 0 or len(self._answers) + read >= self._limits.answers:
                break
            tokens = min(request.left, left)
            before += tokens * (self._load.prompt_tokens - request.left + tokens / 2)
            request.left -= tokens
            left -= tokens
            prompt += tokens
            read += 1
            if not request.left:
                complete.append(request)
        for _ in complete:
            self._waiting.popleft()
        return prompt, before / max(prompt, 1), read, complete


def _percentile(values: Iterable[tuple[float, float]], percent: float) -> float:
    """Of values that each stand for several: the least that so many are not above; 0 of none."""
    ordered = sorted((value, weight) for value, weight in values if weight)
    wanted, seen = sum(weight for _, weight in ordered) * percent / 100, 0.0
    for value, weight in ordered:
        seen += weight
        if seen >= wanted:
            return value
    return ordered[-1][0] if ordered else 0.0
