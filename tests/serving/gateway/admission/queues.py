"""Queues as tests make them, and the loop that they run in."""

from __future__ import annotations

import asyncio
from typing import Any

from admission.engines import Gate, settle

from serving.gateway.admission.turn import Turn


async def drain(gate: Gate, *tasks: asyncio.Task[Turn], tokens: int = 10) -> None:
    """End one answer after the other until all tasks had their turn."""
    ended: set[asyncio.Task[Turn]] = set()
    while len(ended) < len(tasks):
        await settle()
        ready = [task for task in tasks if task.done() and task not in ended]
        assert ready, "nobody has a turn"
        for task in ready:
            ended.add(task)
            gate.end(task.result(), tokens)


def run(scenario: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario

    asyncio.run(bounded())


async def slow_queue(gate: Gate, waiting: int) -> tuple[Turn, list[asyncio.Task[Turn]]]:
    """A queue that gives about ten turns a second, with one running and some waiting."""
    turn = await gate.ask()
    tasks = [gate.ask() for _ in range(waiting)]
    for task in tasks[:3]:
        await asyncio.sleep(0.1)
        gate.end(turn)
        turn = await task
    return turn, tasks[3:]
