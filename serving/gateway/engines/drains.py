"""Engines that an administrator drains: written to the database, followed by every process of every gateway."""

from __future__ import annotations

import asyncio
import contextlib

from serving.gateway.engines.pool import EnginePool
from serving.identity import Identity

BY_ADMIN = "an administrator"
_INTERVAL_S = 0.5


class Drains:
    """Keeps a pool's engines, those that join later too, drained as the database says."""

    def __init__(self, identity: Identity, pool: EnginePool) -> None:
        self._identity = identity
        self._pool = pool
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def look(self) -> None:
        """Drain what is to be drained on behalf of administrators, and nothing else."""
        drained = self._identity.drained_engines
        for engine in self._pool.engines:
            engine.drain(BY_ADMIN, engine.name in drained)

    async def _follow(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(_INTERVAL_S)
