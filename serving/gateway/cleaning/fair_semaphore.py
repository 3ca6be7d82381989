"""A semaphore whose slots go to tenants in turn, so that no tenant's large requests delay another's for long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from serving.gateway.errors import RETRY_AFTER, Overloaded, QueueFull

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Of bodies that wait, all together."""
PARTS_OF_QUEUE = 4
"""A tenant's requests are at most one in so many of those that may wait."""


class _Waiting(NamedTuple):
    size: int
    granted: asyncio.Future[None]


class FairSemaphore:
    """Waiting requests get its slots tenant by tenant, and in order of arrival within a tenant."""

    def __init__(self, slots: int, max_waiting: int | None) -> None:
        """`max_waiting`: None where the number of waiting requests is bounded elsewhere."""
        self.apply(slots, max_waiting)
        self._in_use: dict[str, int] = {}
        self._waiting: dict[str, deque[_Waiting]] = {}
        """By tenant; the first tenant's is next."""

    def apply(self, slots: int, max_waiting: int | None) -> None:
        """Change the bounds; slots in use stay so."""
        self._slots = slots
        self._max_waiting = max_waiting
        # With more than one slot, one is always left for other tenants.
        self._slots_of_one = max(1, slots - 1)

    @asynccontextmanager
    async def slot(self, tenant: str, size: int) -> AsyncIterator[None]:
        """Hold a slot for a request of `size` bytes.

        Raises:
            QueueFull: too many of the tenant's requests wait already.
            Overloaded: too many requests wait already.
        """
        if not self._may_enter(tenant) or self._waiting.get(tenant):
            await self._wait(tenant, size)
        else:
            self._in_use[tenant] = self._in_use.get(tenant, 0) + 1
        try:
            yield
        finally:
            self._leave(tenant)

    async def _wait(self, tenant: str, size: int) -> None:
        self._check(tenant, size)
        waiting = _Waiting(size, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(tenant, deque()).append(waiting)
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.done() and not waiting.granted.cancelled():
                self._leave(tenant)  # it was let in at the moment at which it left
            else:
                self._forget(tenant, waiting)
            raise

    def _check(self, tenant: str, size: int) -> None:
        if self._max_waiting is None:
            return
        own = self._waiting.get(tenant, ())
        if own and (
            len(own) >= max(1, self._max_waiting // PARTS_OF_QUEUE)
            or sum(waiting.size for waiting in own) + size > MAX_WAITING_BYTES // PARTS_OF_QUEUE
        ):
            message = "Too many large requests of yours wait to be cleaned. Ask again later, or send fewer at a time."
            raise QueueFull(message, code="cleaning_queue_full", headers=RETRY_AFTER)
        sizes = [waiting.size for tenant_queue in self._waiting.values() for waiting in tenant_queue]
        if len(sizes) >= self._max_waiting or sum(sizes) + size > MAX_WAITING_BYTES:
            message = "Too many large requests wait to be cleaned. Ask again later."
            raise Overloaded(message, code="cleaning_queue_full", headers=RETRY_AFTER)

    def _may_enter(self, tenant: str) -> bool:
        return sum(self._in_use.values()) < self._slots and self._in_use.get(tenant, 0) < self._slots_of_one

    def _leave(self, tenant: str) -> None:
        self._in_use[tenant] -= 1
        if not self._in_use[tenant]:
            del self._in_use[tenant]
        self._let_in()

    def _let_in(self) -> None:
        for tenant in list(self._waiting):
            if not self._may_enter(tenant):
                continue
            waiting = self._waiting.pop(tenant)
            first = waiting.popleft()
            if waiting:
                self._waiting[tenant] = waiting  # behind the others
            if first.granted.done():
                continue  # cancelled, and about to be forgotten
            self._in_use[tenant] = self._in_use.get(tenant, 0) + 1
            first.granted.set_result(None)

    def _forget(self, tenant: str, waiting: _Waiting) -> None:
        own = self._waiting.get(tenant)
        if own is not None and waiting in own:
            own.remove(waiting)
            if not own:
                del self._waiting[tenant]
