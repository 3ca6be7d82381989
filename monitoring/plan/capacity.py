"""How many engines hold a load at a service-level objective."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from monitoring.plan.queueing import Limits, Load, Served, serve
from monitoring.plan.roofline import Roofline

# The rate is found to within a fiftieth: the model is not truer than that.
_EXACT = 0.02


@dataclass(frozen=True, slots=True)
class Objective:
    """What 95 of 100 requests are to see. Seconds; `inter_token_s` is an answer's mean."""

    ttft_s: float
    inter_token_s: float

    def holds(self, served: Served) -> bool:
        return served.ttft_p95_s <= self.ttft_s and served.inter_token_p95_s <= self.inter_token_s


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of one engine, and of as many as the load needs."""

    alone_ttft_s: float
    alone_inter_token_s: float
    """Of a request that shares its engine with no other."""
    per_engine: float
    """Requests a second that one engine holds within the objective; 0: not even one alone."""
    engines: int
    """None hold it: 0."""
    served: Served | None
    """At the load, by each of them."""
    peak_tokens_per_s: float
    """Of one engine at `per_engine`."""


def capacity_of(engine: Roofline, load: Load, limits: Limits, objective: Objective) -> Capacity:
    """Engines for a load that is spread evenly over them."""
    context = load.prompt_tokens + load.answer_tokens / 2
    ttft, gap = engine.first_token_s(load.prompt_tokens), engine.step_s(1, context)
    if limits.answers < 1 or ttft > objective.ttft_s or gap > objective.inter_token_s:
        return Capacity(ttft, gap, 0.0, 0, None, 0.0)
    rate = _highest_rate(engine, load, limits, objective)
    if not rate:
        return Capacity(ttft, gap, 0.0, 0, None, 0.0)
    engines = math.ceil(load.requests_per_s / rate * (1 - 1e-9))
    served = serve(engine, replace(load, requests_per_s=load.requests_per_s / engines), limits)
    return Capacity(ttft, gap, rate, engines, served, rate * load.answer_tokens)


def _highest_rate(engine: Roofline, load: Load, limits: Limits, objective: Objective) -> float:
    """By halving, between nothing and what the fullest step allows."""

    def holds(rate: float) -> bool:
        return objective.holds(serve(engine, replace(load, requests_per_s=rate), limits))

    context = load.prompt_tokens + load.answer_tokens / 2
    full = engine.step_s(limits.answers, context) * load.answer_tokens / limits.answers
    high = 1 / (full + engine.prompt_s(load.prompt_tokens) / 2)
    low = high / 1024
    if not holds(low):
        return 0.0
    while high / low > 1 + _EXACT:
        middle = math.sqrt(high * low)
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
