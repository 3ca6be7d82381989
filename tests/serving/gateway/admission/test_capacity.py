from __future__ import annotations

import pytest

from serving.gateway.admission.capacity import Capacity
from serving.gateway.admission.concurrency import Bounds
from tests.serving.gateway.admission.engines import SeenEngine, SeenPool

LATER = 2.0
"""Seconds after which it is looked up again what serves what."""


def fixed(slots: int) -> Bounds:
    return Bounds(start=slots, least=1, most=slots, adaptive=False)


def capacity_of(*engines: SeenEngine, slots: int = 4) -> Capacity:
    return make(SeenPool(*engines), slots)


def make(pool: SeenPool, slots: int = 4) -> Capacity:
    return Capacity(pool, fixed(slots), lambda: None)  # type: ignore[arg-type]


def test_free_slots_are_of_the_engines_that_serve_the_model() -> None:
    one, two, other = SeenEngine("one", "m"), SeenEngine("two", "m"), SeenEngine("other", "else")
    capacity = capacity_of(one, two, other)
    one.in_flight, two.in_flight, other.in_flight = 1, 4, 0

    assert capacity.room("m", 0.0) == (3, 8)
    assert capacity.has_room("m", 0.0)


def test_an_engine_beyond_its_limit_takes_no_room_from_others() -> None:
    one, two = SeenEngine("one"), SeenEngine("two")
    capacity = capacity_of(one, two)
    one.in_flight, two.in_flight = 9, 3

    assert capacity.room("m", 0.0) == (1, 8)


@pytest.mark.parametrize("state", ["down", "open circuit"])
def test_an_engine_that_cannot_be_asked_has_no_room(state: str) -> None:
    one, two = SeenEngine("one"), SeenEngine("two")
    capacity = capacity_of(one, two)
    two.in_flight = 4
    if state == "down":
        one.available = False
    else:
        one.circuit.closed = False

    assert capacity.room("m", 0.0) == (0, 4)
    assert not capacity.has_room("m", 0.0)


def test_where_every_circuit_is_open_engines_may_be_tried_all_the_same() -> None:
    one = SeenEngine("one")
    one.circuit.closed = False

    assert capacity_of(one).has_room("m", 0.0)


def test_where_no_engine_is_up_nobody_waits_for_one() -> None:
    one = SeenEngine("one")
    one.available = False

    assert capacity_of(one).has_room("m", 0.0)
    assert capacity_of().has_room("m", 0.0)


def test_models_share_a_queue_where_they_share_engines_be_it_through_others() -> None:
    capacity = capacity_of(SeenEngine("1", "a", "b"), SeenEngine("2", "b", "c"), SeenEngine("3", "d"))

    assert capacity.queue_name("a", 0.0) == capacity.queue_name("c", 0.0) == "a"
    assert capacity.queue_name("d", 0.0) == "d"
    assert capacity.queue_name("unknown", 0.0) == "unknown"


def test_an_engine_that_lists_no_models_shares_with_all() -> None:
    silent = SeenEngine("silent", "a")
    silent.lists_models = False

    capacity = capacity_of(silent, SeenEngine("2", "b"))

    assert capacity.queue_name("a", 0.0) == capacity.queue_name("b", 0.0)


def test_what_serves_what_is_looked_up_again_after_a_while() -> None:
    one = SeenEngine("one", "m")
    capacity = capacity_of(one)
    assert capacity.room("adapter", 0.0)[1] > 4  # nobody serves it: nobody waits

    one.cards["adapter"] = {}

    assert capacity.room("adapter", 0.5)[1] > 4
    assert capacity.room("adapter", LATER) == (4, 4)


def test_a_change_of_the_pool_is_seen_at_once_and_limits_are_kept() -> None:
    one, two = SeenEngine("one"), SeenEngine("two")
    pool = SeenPool(one)
    capacity = make(pool)
    assert capacity.room("m", 0.0) == (4, 4)
    limit = one.limit

    pool.engines.append(two)
    pool.changed(two)

    assert capacity.room("m", 0.0) == (8, 8)
    assert capacity.limits == {"one": 4, "two": 4}
    assert one.limit is limit


def test_new_bounds_hold_for_engines_that_are_there() -> None:
    capacity = capacity_of(SeenEngine("one"))
    capacity.room("m", 0.0)

    capacity.apply(fixed(9))

    assert capacity.room("m", 0.0) == (9, 9)
