"""Which tenant gets the next slot when several ask for more than there are."""

from __future__ import annotations

import asyncio

import pytest

from serving.gateway.cleaning.fair_semaphore import MAX_WAITING_BYTES, FairSemaphore
from serving.gateway.errors import Overloaded, QueueFull


class Visitors:
    """Requests that stay until they are told to go."""

    def __init__(self, semaphore: FairSemaphore) -> None:
        self._semaphore = semaphore
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._go: dict[str, asyncio.Event] = {}

    async def come(self, name: str, size: int = 1) -> None:
        """`a1` is a request of tenant `a`."""
        self._go[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._visit(name, size))
        await settled()

    async def leave(self, name: str) -> None:
        self._go[name].set()
        await settled()

    async def _visit(self, name: str, size: int) -> None:
        async with self._semaphore.slot(name[0], size):
            self.inside.append(name)
            await self._go[name].wait()
            self.inside.remove(name)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_slot_is_left_for_the_others() -> None:
    visitors = Visitors(FairSemaphore(3, 16))
    for name in ("a1", "a2", "a3", "b1"):
        await visitors.come(name)

    assert visitors.inside == ["a1", "a2", "b1"]
    await visitors.leave("b1")
    assert visitors.inside == ["a1", "a2"]
    await visitors.leave("a1")
    assert visitors.inside == ["a2", "a3"]


async def test_tenants_take_turns_however_many_each_sends() -> None:
    visitors = Visitors(FairSemaphore(1, 64))
    for name in ("a1", "a2", "a3", "a4", "b1", "c1", "b2"):
        await visitors.come(name)

    order = []
    while visitors.inside:
        order += visitors.inside
        await visitors.leave(visitors.inside[0])
    assert order == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_a_tenant_fills_its_part_of_the_queue_and_no_more() -> None:
    semaphore = FairSemaphore(1, 8)
    visitors = Visitors(semaphore)
    for name in ("a1", "a2", "a3"):
        await visitors.come(name)

    with pytest.raises(QueueFull) as told:
        async with semaphore.slot("a", 1):
            pass
    assert told.value.code == "cleaning_queue_full"
    assert dict(told.value.headers)[b"retry-after"]
    await visitors.come("b1")
    assert not visitors.tasks["b1"].done()


async def test_the_queue_is_bounded_by_number_and_by_bytes() -> None:
    semaphore = FairSemaphore(1, 4)
    visitors = Visitors(semaphore)
    for name in ("a1", "a2", "b1", "c1", "d1"):
        await visitors.come(name)
    with pytest.raises(Overloaded):
        async with semaphore.slot("e", 1):
            pass

    semaphore = FairSemaphore(1, 100)
    visitors = Visitors(semaphore)
    await visitors.come("a1")
    await visitors.come("a2", MAX_WAITING_BYTES // 4)
    with pytest.raises(QueueFull):
        async with semaphore.slot("a", 1):
            pass


async def test_a_request_that_leaves_the_queue_takes_no_slot() -> None:
    visitors = Visitors(FairSemaphore(1, 16))
    for name in ("a1", "b1", "c1"):
        await visitors.come(name)

    visitors.tasks["b1"].cancel()
    await visitors.leave("a1")
    assert visitors.inside == ["c1"]
    await visitors.leave("c1")
    await visitors.come("d1")
    assert visitors.inside == ["d1"]


async def test_a_request_cancelled_when_granted_hands_the_slot_on() -> None:
    visitors = Visitors(FairSemaphore(1, 16))
    for name in ("a1", "b1", "c1"):
        await visitors.come(name)

    visitors._go["a1"].set()
    await asyncio.sleep(0)  # a1 leaves, and lets b1 in, which does not know yet
    visitors.tasks["b1"].cancel()
    await settled()
    assert visitors.inside == ["c1"]
