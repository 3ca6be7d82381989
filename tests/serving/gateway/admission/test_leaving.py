"""Whoever leaves, whenever, leaves nothing behind, and its place goes to the next."""

from __future__ import annotations

import asyncio
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.admission.permit import Permit
from serving.gateway.errors import GatewayError
from tests.serving.gateway.admission.engines import Gate, SeenEngine, settle
from tests.serving.gateway.admission.queues import run


def test_who_leaves_the_queue_leaves_nothing() -> None:
    async def scenario() -> None:
        gate = Gate()
        first = await gate.ask()
        gone, stays = gate.ask(), gate.ask("b")
        await settle()
        gone.cancel()
        await settle()
        assert gate.admission.state().waiting == {"m": 1}
        gate.end(first)
        gate.end(await stays)
        assert gate.is_clean()

    run(scenario())


def test_a_turn_that_comes_as_the_client_goes_is_the_next_ones() -> None:
    async def scenario() -> None:
        gate = Gate()
        first = await gate.ask()
        gone, stays = gate.ask(), gate.ask()
        await settle()
        gate.end(first)
        gone.cancel()
        gate.end(await asyncio.wait_for(stays, 1))
        assert gate.is_clean()

    run(scenario())


def test_a_place_that_is_free_in_the_moment_its_heir_leaves_goes_to_the_next() -> None:
    async def scenario() -> None:
        gate = Gate(concurrency=1)
        first = await gate.ask()
        leaving, waiting = gate.ask(), gate.ask()
        await settle()
        leaving.cancel()
        gate.end(first)
        gate.end(await asyncio.wait_for(waiting, 1))
        assert leaving.cancelled()
        assert gate.is_clean()

    run(scenario())


def test_a_place_kept_for_another_models_turn_is_given_when_that_went_elsewhere() -> None:
    async def scenario() -> None:
        gate = Gate(SeenEngine("one", "x", "y"), SeenEngine("two", "y", "z"), concurrency=1)
        first = await gate.ask(model="z")
        second = gate.ask(model="z")
        await settle()
        third = gate.ask(model="x")
        gate.end(first)
        gate.end(await asyncio.wait_for(third, 1))
        gate.end(await second)
        assert gate.is_clean()

    run(scenario())


def test_who_leaves_in_the_moment_it_is_crowded_out_is_counted_once() -> None:
    async def scenario() -> None:
        gate = Gate(concurrency=1, max_queued=2)
        first = await gate.ask("flood")
        crowd = [gate.ask("flood") for _ in range(2)]
        await settle()
        polite = gate.ask("polite")
        for task in crowd:
            task.cancel()
        await settle()
        gate.end(first)
        gate.end(await asyncio.wait_for(polite, 1))
        assert gate.is_clean()

    run(scenario())


steps = st.lists(
    st.tuples(st.sampled_from(["ask", "end", "cancel", "expire", "engine"]), st.integers(0, 30)), max_size=60
)


@settings(max_examples=80, deadline=None)
@given(steps, st.sampled_from([0.0, 0.2]), st.integers(1, 3))
def test_no_path_leaks_and_no_slot_stays_empty(plan: list[tuple[str, int]], headroom: float, slots: int) -> None:
    async def scenario() -> None:
        engines = SeenEngine("one", "x", "y"), SeenEngine("two", "y", "z")
        gate = Gate(*engines, concurrency=slots, headroom=headroom, max_queued=12, max_queued_per_tenant=6)
        asked: list[asyncio.Task[Permit]] = []
        running: list[Permit] = []
        for what, number in plan:
            if what == "ask":
                asked.append(gate.ask("abc"[number % 3], "xyz"[number % 3], priority=number % 4))
            elif what == "expire":
                headers = {b"x-signet-deadline-ms": b"0.01"}
                asked.append(gate.ask("abc"[number % 3], "xyz"[number % 3], headers=headers))
            elif what == "end" and running:
                gate.end(running.pop(number % len(running)), number)
            elif what == "cancel" and asked:
                asked[number % len(asked)].cancel()
            elif what == "engine":
                engines[number % 2].available = not engines[number % 2].available
                gate.pool.changed(engines[number % 2])
            if number % 3:
                await settle()
            running += _grants(asked)
        await settle()
        running += _grants(asked)
        state = gate.admission.state()
        if headroom == 0.0:
            for model, waiting in state.waiting.items():
                assert not waiting or gate.admission._capacity.room(model, time.perf_counter())[0] == 0
        for engine in engines:
            engine.available = True
            gate.pool.changed(engine)
        while running or asked:
            for permit in running:
                gate.end(permit)
            running.clear()
            await settle()
            running += _grants(asked)
        assert gate.is_clean()
        assert not any(engine.in_flight for engine in engines)

    def _grants(asked: list[asyncio.Task[Permit]]) -> list[Permit]:
        """Those that have one now; refused and cancelled ones are dropped."""
        done = [task for task in asked if task.done()]
        for task in done:
            asked.remove(task)
        alive = [task for task in done if not task.cancelled()]
        assert all(isinstance(task.exception(), GatewayError | None) for task in alive)
        return [task.result() for task in alive if task.exception() is None]

    run(scenario())
