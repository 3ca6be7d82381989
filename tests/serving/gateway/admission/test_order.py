"""Who goes first: by priority, then by what a tenant was served, with room kept for those who ask little."""

from __future__ import annotations

import asyncio

import pytest

from tests.serving.gateway.admission.engines import Gate, SeenEngine, settle
from tests.serving.gateway.admission.queues import drain, run


def test_tenants_take_turns_whoever_asks_more() -> None:
    async def scenario() -> None:
        gate = Gate()
        flood = [gate.ask("flood") for _ in range(20)]
        await settle()
        polite = [gate.ask("polite") for _ in range(3)]
        await drain(gate, *flood, *polite)
        assert gate.order[:7].count("polite") == 3
        assert gate.is_clean()

    run(scenario())


def test_higher_priorities_go_first_and_lower_ones_do_not_starve() -> None:
    async def scenario() -> None:
        gate = Gate(lower_priority_share=0.1)
        urgent = [gate.ask("urgent", headers={b"x-signet-priority": b"5"}) for _ in range(100)]
        await settle()
        low = [gate.ask("low", priority=0) for _ in range(5)]
        lowest = [gate.ask("lowest", headers={b"x-signet-priority": b"-3"}) for _ in range(5)]
        await drain(gate, *urgent, *low, *lowest)
        assert gate.order[:9].count("urgent") >= 8
        assert 3 <= gate.order[:50].count("low") + gate.order[:50].count("lowest") <= 6
        assert gate.order[:50].count("lowest") >= 2
        assert gate.is_clean()

    run(scenario())


def test_without_a_share_priorities_are_strict() -> None:
    async def scenario() -> None:
        gate = Gate(lower_priority_share=0.0)
        tasks = [gate.ask("low", priority=0) for _ in range(3)]
        await settle()
        tasks += [gate.ask("urgent", headers={b"x-signet-priority": b"5"}) for _ in range(30)]
        await drain(gate, *tasks)
        assert gate.order[1:31] == ["urgent"] * 30

    run(scenario())


@pytest.mark.parametrize(
    ("asked", "allowed", "expected"), [(b"9", 5, 5), (b"3", 5, 3), (b"-4", 0, -4), (None, -2, -2), (None, 5, 0)]
)
def test_a_priority_is_bounded_by_the_key(asked: bytes | None, allowed: int, expected: int) -> None:
    async def scenario() -> None:
        gate = Gate()
        headers = {} if asked is None else {b"x-signet-priority": asked}
        context = gate.context(headers=headers)
        context.principal = type(context.principal)("key", "a", priority=allowed)  # type: ignore[misc,arg-type]
        gate.demand(context)
        assert context.question.priority == expected

    run(scenario())


@pytest.mark.parametrize(("to_engine", "sent"), [(False, None), (True, -3)])
def test_the_engine_sees_a_priority_only_where_it_wants_one(to_engine: bool, sent: int | None) -> None:
    async def scenario() -> None:
        gate = Gate(engine_priority=to_engine)
        context = gate.context()
        context.question.body["priority"] = 3
        gate.demand(context)
        assert context.question.priority == 3
        assert context.question.body.get("priority") == sent

    run(scenario())


def test_models_of_one_engine_share_its_queue_and_others_do_not_wait() -> None:
    async def scenario() -> None:
        gate = Gate(SeenEngine("one", "base", "adapter"), SeenEngine("two", "other"))
        first = await gate.ask("a", "base")
        tasks = [gate.ask("a", "base") for _ in range(5)]
        await settle()
        tasks.append(gate.ask("b", "adapter"))
        gate.end(await asyncio.wait_for(gate.ask("a", "other"), 1))
        gate.end(first, 10)
        await drain(gate, *tasks)
        assert gate.order[2:5].count("b") == 1
        assert gate.is_clean()

    run(scenario())


def test_headroom_is_kept_for_who_asks_less_than_its_share() -> None:
    async def scenario() -> None:
        gate = Gate(concurrency=20, headroom=0.2)
        gate.end(await gate.ask("polite"))
        flood = [gate.ask("flood") for _ in range(40)]
        await settle()
        assert sum(task.done() for task in flood) == 16
        polite = [gate.ask("polite") for _ in range(4)]
        await settle()
        assert all(task.done() for task in polite)

    run(scenario())


def test_alone_a_tenant_has_every_place() -> None:
    async def scenario() -> None:
        gate = Gate(concurrency=20, headroom=0.2)
        tasks = [gate.ask("flood") for _ in range(40)]
        await settle()
        assert sum(task.done() for task in tasks) == 20

    run(scenario())
