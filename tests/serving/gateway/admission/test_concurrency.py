"""The adaptive limit, steering a simulated engine."""

from __future__ import annotations

import random

import pytest

from serving.gateway.admission.concurrency import Bounds, ConcurrencyLimit

BOUNDS = Bounds(start=32, least=4, most=4096, adaptive=True, headroom=0.1)


def make(bounds: Bounds = BOUNDS) -> ConcurrencyLimit:
    return ConcurrencyLimit(bounds, lambda: None)


def flood(limit: ConcurrencyLimit, capacity: int, readings: int) -> list[int]:
    """Everything admitted is sent; an engine that runs `capacity` at once tells what waits, once a reading."""
    seen = []
    for _ in range(readings):
        in_flight = limit.limit
        for _ in range(min(in_flight, capacity)):
            limit.observe_first_token(0.02 if in_flight <= capacity else 0.5, in_flight)
        limit.observe_load(min(in_flight, capacity), max(0, in_flight - capacity), in_flight)
        seen.append(limit.limit)
    return seen


@pytest.mark.parametrize("capacity", [8, 64, 256, 1024])
def test_it_settles_a_little_above_what_the_engine_runs(capacity: int) -> None:
    limit = make()

    flood(limit, capacity, 60)

    assert all(capacity <= value <= capacity * 1.25 + 3 for value in flood(limit, capacity, 40))


def test_it_starts_fast() -> None:
    limit = make()

    assert flood(limit, 1024, 6)[-1] >= 1024


def test_it_follows_an_engine_that_runs_less_and_more_again() -> None:
    limit = make()
    flood(limit, 256, 40)

    assert flood(limit, 16, 40)[-1] <= 22
    assert flood(limit, 256, 60)[-1] >= 256


def test_a_queue_seen_once_is_a_burst() -> None:
    limit = make()
    flood(limit, 64, 60)
    before = limit.limit

    limit.observe_load(running=2, waiting=60, own=62)

    assert limit.limit >= before * 0.9


def test_two_processes_share_an_engine() -> None:
    first, second = make(), make()

    for _ in range(60):
        own = first.limit, second.limit
        for limit in (first, second):
            limit.observe_load(min(64, sum(own)), max(0, sum(own) - 64), limit.limit)

    assert 64 <= first.limit + second.limit <= 84
    assert min(first.limit, second.limit) >= 20


def test_a_limit_that_is_not_reached_says_nothing() -> None:
    limit = make()

    for _ in range(50):
        limit.observe_first_token(0.02, in_flight=3)
        limit.observe_load(running=3, waiting=0, own=3)

    assert limit.limit == 32


def test_what_waits_between_two_steps_is_no_queue() -> None:
    limit, generator = make(), random.Random(5)
    flood(limit, 32, 60)

    for _ in range(300):
        # The headroom is kept free, so that nothing waits but what came since the last step began.
        own = int(limit.limit * 0.9)
        arrived = min(generator.choice((0, 0, 0, 1, 1, 2)), own)
        limit.observe_load(running=min(32, own - arrived), waiting=arrived + max(0, own - 32 - arrived), own=own)

    assert 32 <= limit.limit <= 40


def test_headroom_that_one_tenant_leaves_free_is_not_grown_into() -> None:
    limit = make()
    flood(limit, 64, 60)
    settled = limit.limit

    for _ in range(30):
        own = int(limit.limit * 0.9)
        limit.observe_load(running=own, waiting=0, own=own)

    assert limit.limit <= settled * 1.1


def test_an_engine_that_tells_nothing_is_judged_by_its_first_tokens() -> None:
    limit, generator, capacity = make(), random.Random(3), 64
    for _ in range(6000):
        in_flight = limit.limit
        # Beyond its capacity questions wait; one in ten has a prompt that takes fifty times as long.
        ttft = 0.02 * max(1.0, (in_flight / capacity) ** 3) * (50 if generator.random() < 0.1 else 1)
        limit.observe_first_token(ttft, in_flight)

    assert 40 <= limit.limit <= 160


def test_long_prompts_do_not_shrink_it() -> None:
    limit, generator = make(), random.Random(3)

    for _ in range(6000):
        limit.observe_first_token(0.02 if generator.random() > 0.5 else generator.uniform(1, 20), limit.limit)

    assert limit.limit > 1000


def test_prompts_that_become_longer_for_good_do_not_shrink_it_for_good() -> None:
    limit = make(Bounds(start=64, least=4, most=256, adaptive=True))
    for ttft in (0.02, 2.0):
        for _ in range(6000):
            limit.observe_first_token(ttft, limit.limit)

    assert limit.limit > 200


def test_a_fixed_limit_stays() -> None:
    limit = make(Bounds(start=8, least=1, most=100, adaptive=False))

    flood(limit, 2, 20)

    assert limit.limit == 8


def test_new_bounds_take_effect_at_once() -> None:
    grown: list[int] = []
    limit = ConcurrencyLimit(BOUNDS, lambda: grown.append(1))

    limit.apply(Bounds(start=8, least=1, most=10, adaptive=True))
    assert limit.limit == 10
    limit.apply(Bounds(start=50, least=1, most=10, adaptive=False))
    assert limit.limit == 50
    assert grown


def test_workers_divide_it() -> None:
    assert Bounds(256, 4, 16384, True).divided(4) == Bounds(64, 1, 4096, True)
