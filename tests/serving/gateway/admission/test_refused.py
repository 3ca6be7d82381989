"""Who would wait in vain is refused at once, and who has waited too long then."""

from __future__ import annotations

import asyncio

import pytest

from serving.gateway.errors import BadRequest, DeadlineExceeded, Overloaded, QueueFull
from serving.gateway.settings.admission import AdmissionSettings
from tests.serving.gateway.admission.engines import Gate, settle
from tests.serving.gateway.admission.queues import drain, run, slow_queue


@pytest.mark.parametrize(
    "headers", [{b"x-signet-priority": b"high"}, {b"x-signet-deadline-ms": b"-5"}, {b"x-request-timeout": b"soon"}]
)
def test_wishes_that_are_no_numbers_are_refused_even_with_room(headers: dict[bytes, bytes]) -> None:
    async def scenario() -> None:
        gate = Gate()
        with pytest.raises(BadRequest):
            gate.demand(gate.context(headers=headers))

    run(scenario())


def test_a_deadline_that_passes_in_the_queue_ends_the_wait() -> None:
    async def scenario() -> None:
        gate = Gate()
        first = await gate.ask()
        with pytest.raises(DeadlineExceeded):
            await gate.ask(headers={b"x-signet-deadline-ms": b"30"})
        with pytest.raises(DeadlineExceeded):
            await gate.ask(headers={b"x-request-timeout": b"0.03"})
        gate.end(first)
        assert gate.is_clean()
        assert gate.admission.state().refused == {"deadline_exceeded": 2}

    run(scenario())


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    async def scenario() -> None:
        gate = Gate()
        permit, waiting = await slow_queue(gate, 23)
        refused = gate.ask(headers={b"x-signet-deadline-ms": b"500"})
        await settle()
        assert refused.done()
        with pytest.raises(DeadlineExceeded):
            await refused
        # Another tenant has nobody of its own in front of it.
        other = gate.ask("other", headers={b"x-signet-deadline-ms": b"500"})
        await settle()
        gate.end(permit)
        gate.end(await waiting[0])
        await other

    run(scenario())


def test_retry_after_comes_from_the_observed_rate() -> None:
    async def scenario() -> None:
        gate = Gate()
        await slow_queue(gate, 43)
        gate.admission.apply(AdmissionSettings(adaptive=False, concurrency=1, max_queued_per_tenant=40))
        with pytest.raises(QueueFull) as refused:
            await gate.ask()
        ((name, value),) = refused.value.headers
        assert name == b"retry-after"
        assert 3 <= int(value) <= 7

    run(scenario())


def test_a_flooding_tenant_fills_its_own_share_only() -> None:
    async def scenario() -> None:
        gate = Gate(max_queued=10, max_queued_per_tenant=10)
        permit = await gate.ask("flood")
        flood = [gate.ask("flood") for _ in range(10)]
        await settle()
        polite = gate.ask("polite")
        await settle()
        # The newest of the flood was dropped.
        assert isinstance(flood[-1].exception(), QueueFull)
        with pytest.raises(QueueFull):
            await gate.ask("flood")
        gate.end(permit)
        await drain(gate, polite, *flood[:-1])
        assert gate.is_clean()

    run(scenario())


def test_a_queue_full_of_equals_is_overloaded() -> None:
    async def scenario() -> None:
        gate = Gate(max_queued=4)
        await gate.ask("z")
        for tenant in "abcd":
            gate.ask(tenant)
        await settle()
        with pytest.raises(Overloaded) as refused:
            await gate.ask("e")
        assert refused.value.http_status == 503
        assert refused.value.headers[0][0] == b"retry-after"

    run(scenario())


def test_the_longest_wait_is_bounded() -> None:
    async def scenario() -> None:
        gate = Gate(max_wait_s=0.05)
        await gate.ask()
        with pytest.raises(Overloaded):
            await gate.ask()

    run(scenario())


def test_what_would_be_refused_when_it_is_ready_is_refused_before() -> None:
    async def scenario() -> None:
        gate = Gate(max_queued_per_tenant=2)
        running = await gate.ask("a")
        waiting = gate.ask("a")
        await settle()
        first = gate.announce(gate.demand())
        with pytest.raises(QueueFull) as refused:
            gate.announce(gate.demand())
        assert refused.value.headers[0][0] == b"retry-after"
        other = gate.announce(gate.demand(gate.context("b")))
        first.withdraw()
        first.withdraw()
        gate.announce(gate.demand()).withdraw()
        other.withdraw()
        gate.end(running)
        await drain(gate, waiting)
        assert gate.is_clean()

    run(scenario())


def test_what_has_room_when_it_is_ready_is_not_counted_as_waiting() -> None:
    async def scenario() -> None:
        gate = Gate(concurrency=3, max_queued_per_tenant=1)
        announced = [gate.announce(gate.demand()) for _ in range(4)]
        with pytest.raises(QueueFull):
            gate.announce(gate.demand())
        for each in announced:
            each.withdraw()
        assert gate.is_clean()

    run(scenario())


def test_a_part_of_a_request_is_not_counted_again() -> None:
    async def scenario() -> None:
        gate = Gate(max_queued_per_tenant=1, max_queued=1)
        running = await gate.ask()
        announced = gate.announce(gate.demand())
        part = asyncio.create_task(gate.admission.wait(gate.demand().for_call("m", 10)))
        await settle()
        announced.withdraw()
        request = gate.ask()
        await settle()
        assert not part.done()
        assert not request.done()
        gate.end(running)
        (await part).release()
        gate.end(await request)
        assert gate.is_clean()

    run(scenario())


def test_what_is_ready_at_once_is_refused_behind_others_only() -> None:
    async def scenario() -> None:
        gate = Gate(max_queued_per_tenant=1)
        assert gate.admission.announce(gate.demand(), is_checked=False) is None
        running = await gate.ask()
        waiting = gate.ask()
        await settle()
        with pytest.raises(QueueFull):
            gate.admission.announce(gate.demand(), is_checked=False)
        gate.end(running)
        await drain(gate, waiting)
        assert gate.is_clean()

    run(scenario())
