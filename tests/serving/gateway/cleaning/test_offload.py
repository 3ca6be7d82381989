"""Long work runs on one thread, short work at once."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from serving.gateway.cleaning import offload
from serving.gateway.cleaning.offload import SHORT_BYTES


async def test_short_work_is_done_at_once_and_long_work_on_another_thread() -> None:
    here = threading.current_thread()

    assert await offload("acme", SHORT_BYTES, threading.current_thread) is here
    assert await offload("acme", SHORT_BYTES + 1, threading.current_thread) is not here


async def test_long_work_is_done_one_by_one_and_tenants_take_turns() -> None:
    busy = threading.Lock()
    done: list[str] = []

    def work(name: str) -> None:
        assert busy.acquire(blocking=False)
        time.sleep(0.01)
        done.append(name)
        busy.release()

    names = ("a1", "a2", "a3", "b1")
    await asyncio.gather(*(offload(name[0], SHORT_BYTES + 1, work, name) for name in names))
    assert done == ["a1", "a2", "b1", "a3"]


async def test_what_fails_fails_for_who_asked() -> None:
    def fail() -> None:
        raise ValueError("no")

    found = await asyncio.gather(offload("acme", SHORT_BYTES + 1, fail), return_exceptions=True)
    assert [type(error) for error in found] == [ValueError]


async def test_who_leaves_keeps_the_turn_until_the_work_is_done() -> None:
    go_on, done = threading.Event(), threading.Event()

    def work() -> None:
        go_on.wait(10)
        done.set()

    asked = asyncio.ensure_future(offload("acme", SHORT_BYTES + 1, work))
    await asyncio.sleep(0)
    asked.cancel()
    next_one = asyncio.ensure_future(offload("acme", SHORT_BYTES + 1, done.is_set))
    await asyncio.sleep(0)
    go_on.set()

    assert await next_one
    with pytest.raises(asyncio.CancelledError):
        await asked
