"""The queue of the gateway's own work: in fair order among tenants, bounded, and never lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serving.gateway.admission import local_work
from serving.gateway.admission.local_work import MOST_WAITING_OF_TENANT, LocalWork
from serving.gateway.errors import Overloaded, QueueFull
from serving.identity import Principal
from tests.serving.gateway.admission.engines import settle


class Desk:
    """Work of which one piece is done at a time, ended by hand."""

    def __init__(self) -> None:
        self.work = LocalWork(1)
        self.order: list[str] = []
        self.ends: list[asyncio.Event] = []

    def ask(self, tenant: str, size: int = 100) -> asyncio.Task[None]:
        return asyncio.create_task(self._do(tenant, size))

    async def _do(self, tenant: str, size: int) -> None:
        async with self.work.slot(Principal("key", tenant), size):
            self.order.append(tenant)
            end = asyncio.Event()
            self.ends.append(end)
            await end.wait()

    async def end_all(self, count: int) -> None:
        for number in range(count):
            await settle()
            self.ends[number].set()
        await settle()

    def is_idle(self) -> bool:
        return not self.work._running and not self.work._counters.num_waiting


async def test_a_tenant_that_asks_much_waits_behind_itself() -> None:
    desk = Desk()
    flood = [desk.ask("flood") for _ in range(8)]
    await settle()
    polite = [desk.ask("polite") for _ in range(2)]
    await desk.end_all(10)

    assert desk.order[:5].count("polite") == 2
    assert all(task.done() for task in flood + polite)
    assert desk.is_idle()


async def test_what_waits_is_bounded() -> None:
    desk = Desk()
    tasks = [desk.ask("a") for _ in range(1 + MOST_WAITING_OF_TENANT)]
    await settle()

    with pytest.raises(QueueFull) as refused:
        await desk.ask("a")
    assert dict(refused.value.headers)[b"retry-after"]

    other = desk.ask("b")
    await desk.end_all(len(tasks) + 1)
    assert other.done()
    assert desk.is_idle()


@pytest.mark.parametrize("moment", ["waiting", "granted"])
async def test_one_that_leaves_takes_no_turn_with_it(moment: str) -> None:
    desk = Desk()
    first, second, third = desk.ask("a"), desk.ask("b"), desk.ask("c")
    await settle()
    if moment == "granted":
        desk.ends[0].set()
        for _ in range(20):
            if desk.work._counters.num_waiting == 1:
                break
            await asyncio.sleep(0)
    second.cancel()
    await settle()
    desk.ends[0].set()
    await settle()
    for end in desk.ends:
        end.set()
    await settle()

    assert first.done()
    assert second.cancelled() or second.done()
    assert third.done()
    assert desk.is_idle()


async def test_who_waits_too_long_is_told(monkeypatch: Any) -> None:
    monkeypatch.setattr(local_work, "MAX_WAIT_S", 0.01)
    desk = Desk()
    first = desk.ask("a")
    await settle()

    with pytest.raises(Overloaded):
        await desk.ask("b")

    desk.ends[0].set()
    await first
    assert desk.is_idle()
