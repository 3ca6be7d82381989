"""Queues as tests make them, and the loop that they run in."""

from __future__ import annotations

import asyncio
from typing import Any

from serving.gateway.admission.permit import Permit
from tests.serving.gateway.admission.engines import Gate, settle


async def drain(gate: Gate, *tasks: asyncio.Task[Permit], tokens: int = 10) -> None:
    """End one answer after the other until all tasks had their permit."""
    ended: set[asyncio.Task[Permit]] = set()
    while len(ended) < len(tasks):
        await settle()
        ready = [task for task in tasks if task.done() and task not in ended]
        assert ready, "nobody has a permit"
        for task in ready:
            ended.add(task)
            gate.end(task.result(), tokens)


def run(scenario: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario

    asyncio.run(bounded())


async def slow_queue(gate: Gate, waiting: int) -> tuple[Permit, list[asyncio.Task[Permit]]]:
    """A queue that grants about ten permits a second, with one running and some waiting."""
    permit = await gate.ask()
    tasks = [gate.ask() for _ in range(waiting)]
    for task in tasks[:3]:
        await asyncio.sleep(0.1)
        gate.end(permit)
        permit = await task
    return permit, tasks[3:]
