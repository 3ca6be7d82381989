from __future__ import annotations

from typing import Any

from serving.gateway.admission.permit import Permit
from tests.serving.gateway.admission.engines import Gate
from tests.serving.gateway.admission.queues import run

# Of 40 characters, counted when the permit is granted.
PROMPT_TOKENS = 10


def served(gate: Gate) -> float:
    """What the tenant was served, by its counter."""
    [queue] = gate.admission._queues.values()
    [counters] = queue._classes.values()
    return counters.accounts["a"].served


def permitted(gate: Gate) -> Permit:
    permit = gate.admission.try_enter(gate.demand())
    assert permit is not None
    return permit


def relay(gate: Gate, permit: Permit, *num_tokens: int) -> None:
    engine: Any = gate.pool.engines[0]
    for number in num_tokens:
        permit.relayed(number, engine)


def gate_of_weights() -> Gate:
    return Gate(concurrency=4, input_weight=1.0, output_weight=2.0)


def test_the_prompt_counts_when_it_is_granted_and_the_answer_as_it_comes() -> None:
    async def scenario() -> None:
        gate = gate_of_weights()
        permit = permitted(gate)
        assert served(gate) == PROMPT_TOKENS

        relay(gate, permit, 3, 5, 4)  # fewer than before are no news

        assert served(gate) == PROMPT_TOKENS + 2 * 5

    run(scenario())


def test_what_the_engine_has_counted_corrects_it() -> None:
    async def scenario() -> None:
        gate = gate_of_weights()
        permit = permitted(gate)
        relay(gate, permit, 5)

        permit.settle(30, 4, None)
        permit.release()

        assert served(gate) == 30 + 2 * 4

    run(scenario())


def test_what_no_engine_has_counted_stays_as_it_was_relayed() -> None:
    async def scenario() -> None:
        gate = gate_of_weights()
        permit = permitted(gate)
        relay(gate, permit, 5)

        permit.release()

        assert served(gate) == PROMPT_TOKENS + 2 * 5

    run(scenario())


def test_what_else_was_done_in_its_place_counts_too() -> None:
    async def scenario() -> None:
        gate = gate_of_weights()
        permit = permitted(gate)
        relay(gate, permit, 5)
        permit.charge(8, 1)

        permit.settle(30, 4, None)

        assert served(gate) == 30 + 2 * 4 + 8 + 2 * 1
        permit.release()

    run(scenario())


def test_it_ends_once() -> None:
    async def scenario() -> None:
        gate = gate_of_weights()
        permit, other = permitted(gate), permitted(gate)
        [queue] = gate.admission._queues.values()
        assert queue.num_running == queue.tenants["a"].num_running == 2

        permit.release()
        permit.release()

        assert queue.num_running == queue.tenants["a"].num_running == 1
        other.release()
        assert gate.is_clean()

    run(scenario())
