"""The simulation runs the gateway's own routing, and shows what routing is for."""

from __future__ import annotations

import pytest

from loadtests.benchmarks.routing_simulation import Outcome, page, simulate


def outcome(workload: str, policy: str) -> Outcome:
    return simulate(workload, policy, num_engines=4, seed=1, scale=0.1)


def test_the_same_seed_gives_the_same_outcome() -> None:
    assert outcome("conversations", "signet") == outcome("conversations", "signet")


@pytest.mark.parametrize("workload", ["conversations", "many system prompts"])
def test_prompts_find_their_cache_more_often_than_by_chance(workload: str) -> None:
    ours, plain = outcome(workload, "signet"), outcome(workload, "round robin")
    assert ours.hit_rate > plain.hit_rate + 0.1
    assert ours.ttft_p95_s < plain.ttft_p95_s
    assert outcome(workload, "signet, 4 replicas").hit_rate > plain.hit_rate + 0.1


def test_one_popular_prompt_makes_no_engine_hot() -> None:
    ours = outcome("one system prompt", "signet")
    assert ours.balance < 1.15
    assert ours.queue_p95_s < 0.1


def test_the_page_has_a_row_for_each_policy() -> None:
    one = Outcome(0.5, 1.1, 0.2, 0.3, 0.4)
    text = page({"conversations": {"signet": [one, one]}}, 8, "command")
    assert "| signet | 0.50 | 1.10 | 0.20 | 0.30 / 0.40 |" in text
