"""A request of several answers takes as many slots."""

from __future__ import annotations

import pytest

from serving.gateway.admission.demand import Demand
from tests.serving.gateway.admission.engines import Gate, SeenEngine, settle
from tests.serving.gateway.admission.queues import drain, run


def test_a_batch_takes_a_place_for_each_of_its_answers() -> None:
    async def scenario() -> None:
        gate = Gate(concurrency=4)
        batch = gate.ask("a", sequences=3)
        await settle()
        single = gate.ask("a")
        await settle()
        assert single.done(), "the fourth slot is free"
        another = gate.ask("b")
        await settle()
        assert not another.done()
        gate.end(batch.result())
        await settle()
        assert another.done()
        gate.end(single.result())
        gate.end(another.result())
        assert gate.is_clean()

    run(scenario())


def test_a_batch_waits_for_all_its_places_and_small_requests_do_not_take_them() -> None:
    async def scenario() -> None:
        gate = Gate(concurrency=4)
        running = [gate.ask("a") for _ in range(4)]
        await settle()
        batch = gate.ask("b", sequences=4)
        await settle()
        flood = [gate.ask("a") for _ in range(20)]
        await settle()
        for task in running:
            assert not batch.done()
            gate.end(task.result(), 10)
            await settle()
        assert batch.done()
        assert not any(task.done() for task in flood)
        await drain(gate, batch, *flood)
        assert gate.is_clean()

    run(scenario())


@pytest.mark.parametrize("headroom", [0.0, 0.5])
def test_a_batch_larger_than_all_places_has_its_turn(headroom: float) -> None:
    async def scenario() -> None:
        gate = Gate(SeenEngine("one"), SeenEngine("two"), concurrency=4, headroom=headroom)
        others = [gate.ask("a") for _ in range(8)]
        await settle()
        batches = [gate.ask("b", sequences=128) for _ in range(2)]
        late = [gate.ask("c") for _ in range(4)]
        await drain(gate, *others, *batches, *late)
        assert gate.is_clean()

    run(scenario())


def test_what_was_kept_for_a_batch_is_free_when_it_leaves() -> None:
    async def scenario() -> None:
        gate = Gate(concurrency=2)
        running = [gate.ask("a") for _ in range(2)]
        await settle()
        batch = gate.ask("b", sequences=2)
        await settle()
        single = gate.ask("c")
        gate.end(running[0].result())
        await settle()
        assert not single.done()
        batch.cancel()
        await settle()
        assert single.done()
        gate.end(running[1].result())
        gate.end(single.result())
        assert gate.is_clean()

    run(scenario())


def test_embeddings_take_room_by_their_length() -> None:
    demand = Demand("a", 1.0, "m")
    demand.measure(300 * 80, is_embedding=True)
    assert demand.slots == 1, "many short texts are one"
    demand.measure(2048 * 8192 * 4, is_embedding=True)
    assert demand.slots == 2048
