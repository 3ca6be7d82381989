"""The simulated engine: what is lost, what is bounded, and what queueing theory says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from monitoring.plan.accelerators import ACCELERATORS
from monitoring.plan.capacity import Objective, capacity_of
from monitoring.plan.memory import memory_of
from monitoring.plan.queueing import Limits, Load, serve
from monitoring.plan.roofline import Roofline
from monitoring.plan.shape import read_shape
from monitoring.plan.weights import weights_of

LOAD = Load(requests_per_s=5, prompt_tokens=800, answer_tokens=300)
LIMITS = Limits(answers=256, step_tokens=8192)


@pytest.fixture
def engine(llama_8b: dict[str, Any]) -> Roofline:
    weights = weights_of(llama_8b, read_shape(llama_8b), "auto")
    device = ACCELERATORS["h100"]
    return Roofline(weights, device, 1, memory_of(weights, device).kv_per_token)


def test_a_lone_request_waits_for_nothing(engine: Roofline) -> None:
    served = serve(engine, replace(LOAD, requests_per_s=0.001), LIMITS, requests=50)

    assert served.ttft_p95_s == pytest.approx(engine.first_token_s(800))
    assert served.inter_token_p95_s == pytest.approx(engine.step_s(1, 950))
    assert served.answers_mean == pytest.approx(1)
    assert served.busy < 0.01


def test_answers_at_once_are_their_rate_times_their_time(engine: Roofline) -> None:
    """Little's law, with the time that a request spends in the engine."""
    served = serve(engine, LOAD, LIMITS, requests=4_000)

    spent = served.ttft_p50_s - engine.efficiency.request_s + 299 * served.inter_token_p50_s

    assert served.answers_mean * served.busy == pytest.approx(LOAD.requests_per_s * spent, rel=0.1)


def test_more_requests_make_everybody_wait_longer(engine: Roofline) -> None:
    seen = [serve(engine, replace(LOAD, requests_per_s=rate), LIMITS) for rate in (1, 4, 16)]

    assert sorted(seen, key=lambda served: served.ttft_p95_s) == seen
    assert sorted(seen, key=lambda served: served.inter_token_p95_s) == seen
    assert seen[2].gap_p99_s > seen[2].inter_token_p95_s


def test_no_more_are_open_than_the_cache_holds(engine: Roofline) -> None:
    served = serve(engine, replace(LOAD, requests_per_s=50), replace(LIMITS, answers=8), requests=200)

    assert served.answers_p95 <= 8
    assert served.ttft_p95_s > 1


def test_answers_of_one_token_are_complete_with_their_prompt(engine: Roofline) -> None:
    served = serve(engine, replace(LOAD, answer_tokens=1), LIMITS, requests=100)

    assert served.inter_token_p95_s == 0
    assert served.ttft_p95_s > 0


def test_prompts_longer_than_a_step_are_read_in_several(engine: Roofline) -> None:
    load = Load(requests_per_s=0.001, prompt_tokens=20_000, answer_tokens=2)

    assert serve(engine, load, LIMITS, requests=10).ttft_p95_s == pytest.approx(engine.first_token_s(20_000))


@pytest.fixture
def needed(engine: Roofline) -> Callable[[float, Objective], int]:
    return lambda rate, objective: capacity_of(engine, replace(LOAD, requests_per_s=rate), LIMITS, objective).engines


def test_engines_hold_the_load_and_one_fewer_would_not(engine: Roofline) -> None:
    load, objective = replace(LOAD, requests_per_s=60), Objective(0.5, 0.02)

    capacity = capacity_of(engine, load, LIMITS, objective)

    assert capacity.served is not None
    assert objective.holds(capacity.served)
    assert capacity.engines > 1
    fewer = replace(load, requests_per_s=1.05 * load.requests_per_s / (capacity.engines - 1))
    assert not objective.holds(serve(engine, fewer, LIMITS))


def test_a_stricter_objective_takes_more_engines(needed: Callable[[float, Objective], int]) -> None:
    assert needed(60, Objective(0.5, 0.012)) > needed(60, Objective(0.5, 0.05)) >= 1


def test_what_no_engine_holds_is_none(engine: Roofline) -> None:
    assert capacity_of(engine, LOAD, LIMITS, Objective(0.001, 0.05)).engines == 0
    assert capacity_of(engine, LOAD, LIMITS, Objective(0.5, 0.001)).engines == 0
    assert capacity_of(engine, LOAD, replace(LIMITS, answers=0), Objective(0.5, 0.05)).engines == 0
