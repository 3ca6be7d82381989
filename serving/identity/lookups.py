"""Looks at the database for keys that are not in memory: shared by all who wait, never more than a few a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

# At most twenty looks a second for whatever number of unknown keys; a new key waits so long at most.
MIN_INTERVAL_S = 0.05


class Lookups:
    """Any number of callers on one event loop share one look at a time, which runs in a thread."""

    def __init__(self, look: Callable[[], bool], min_interval_s: float = MIN_INTERVAL_S) -> None:
        self._look = look
        self._min_interval_s = min_interval_s
        self._began_at = float("-inf")
        self._waiting: asyncio.Task[bool] | None = None
        self._running: asyncio.Task[bool] | None = None

    async def fresh(self) -> bool:
        """What the look says that begins next: it sees whatever was in the database when this was called."""
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._next(self._running))
        # Others wait for it too: one caller that leaves must not cancel it.
        return await asyncio.shield(self._waiting)

    async def _next(self, before: asyncio.Task[bool] | None) -> bool:
        try:
            if before is not None and not before.done():
                await asyncio.wait([before])
            await asyncio.sleep(max(0.0, self._began_at + self._min_interval_s - time.monotonic()))
        finally:
            self._running, self._waiting = self._waiting, None
        self._began_at = time.monotonic()
        return await asyncio.to_thread(self._look)
