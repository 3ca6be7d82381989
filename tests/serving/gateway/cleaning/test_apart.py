"""Long work runs on one thread, short work at once."""

from __future__ import annotations

import asyncio
import threading
import time

from serving.gateway.cleaning import apart
from serving.gateway.cleaning.apart import SHORT_BYTES
from serving.gateway.context import RequestContext
from serving.identity import Principal


def of(tenant: str) -> RequestContext:
    context = RequestContext("chat", {}, b"")
    context.principal = Principal(key_id="k", tenant=tenant)
    return context


async def test_short_work_is_done_at_once_and_long_work_on_another_thread() -> None:
    here = threading.current_thread()

    assert await apart(of("acme"), SHORT_BYTES, threading.current_thread) is here
    assert await apart(of("acme"), SHORT_BYTES + 1, threading.current_thread) is not here


async def test_long_work_is_done_one_by_one_and_tenants_take_turns() -> None:
    busy = threading.Lock()
    done: list[str] = []

    def work(name: str) -> None:
        assert busy.acquire(blocking=False)
        time.sleep(0.01)
        done.append(name)
        busy.release()

    names = ("a1", "a2", "a3", "b1")
    await asyncio.gather(*(apart(of(name[0]), SHORT_BYTES + 1, work, name) for name in names))
    assert done == ["a1", "a2", "b1", "a3"]


async def test_what_fails_fails_for_who_asked() -> None:
    def fail() -> None:
        raise ValueError("no")

    found = await asyncio.gather(apart(of("acme"), SHORT_BYTES + 1, fail), return_exceptions=True)
    assert [type(each) for each in found] == [ValueError]
