"""Places that tenants take in turn, so that one with many large requests delays no other's for long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from serving.gateway.errors import Overloaded, QueueFull

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Of bodies that wait, all together."""
TENANTS_SHARE = 4
"""A tenant's requests are at most one part in so many of those that wait."""
_RETRY_AFTER = ((b"retry-after", b"2"),)


class _Waiting(NamedTuple):
    size: int
    turn: asyncio.Future[None]


class FairTurns:
    """So many places. Who waits is let in tenant by tenant, whoever came first within each."""

    def __init__(self, places: int, most_waiting: int | None) -> None:
        """`most_waiting`: None for any number, where what waits is bounded elsewhere."""
        self.apply(places, most_waiting)
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, deque[_Waiting]] = {}
        """By tenant; who comes first is let in next."""

    def apply(self, places: int, most_waiting: int | None) -> None:
        """Change the bounds; who has a place keeps it."""
        self._places = places
        self._most_waiting = most_waiting
        # With more than one place, one is always left for the others.
        self._places_of_one = max(1, places - 1)

    @asynccontextmanager
    async def turn(self, tenant: str, size: int) -> AsyncIterator[None]:
        """A place for a request of `size` bytes.

        Raises:
            QueueFull: too many of the tenant's requests wait already.
            Overloaded: too many of all.
        """
        if not self._may_enter(tenant) or self._waiting.get(tenant):
            await self._wait(tenant, size)
        else:
            self._taken[tenant] = self._taken.get(tenant, 0) + 1
        try:
            yield
        finally:
            self._leave(tenant)

    async def _wait(self, tenant: str, size: int) -> None:
        self._check(tenant, size)
        waiting = _Waiting(size, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(tenant, deque()).append(waiting)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled():
                self._leave(tenant)  # it was let in at the moment at which it left
            else:
                self._forget(tenant, waiting)
            raise

    def _check(self, tenant: str, size: int) -> None:
        if self._most_waiting is None:
            return
        own = self._waiting.get(tenant, ())
        if own and (
            len(own) >= max(1, self._most_waiting // TENANTS_SHARE)
            or sum(each.size for each in own) + size > MAX_WAITING_BYTES // TENANTS_SHARE
        ):
            message = "Too many large requests of yours wait to be cleaned. Ask again later, or send fewer at a time."
            raise QueueFull(message, code="cleaning_queue_full", headers=_RETRY_AFTER)
        everybodys = [each.size for waiting in self._waiting.values() for each in waiting]
        if len(everybodys) >= self._most_waiting or sum(everybodys) + size > MAX_WAITING_BYTES:
            message = "Too many large requests wait to be cleaned. Ask again later."
            raise Overloaded(message, code="cleaning_queue_full", headers=_RETRY_AFTER)

    def _may_enter(self, tenant: str) -> bool:
        return sum(self._taken.values()) < self._places and self._taken.get(tenant, 0) < self._places_of_one

    def _leave(self, tenant: str) -> None:
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]
        self._let_in()

    def _let_in(self) -> None:
        for tenant in list(self._waiting):
            if not self._may_enter(tenant):
                continue
            waiting = self._waiting.pop(tenant)
            first = waiting.popleft()
            if waiting:
                self._waiting[tenant] = waiting  # behind the others
            if first.turn.done():
                continue  # cancelled, and about to be forgotten
            self._taken[tenant] = self._taken.get(tenant, 0) + 1
            first.turn.set_result(None)

    def _forget(self, tenant: str, waiting: _Waiting) -> None:
        own = self._waiting.get(tenant)
        if own is not None and waiting in own:
            own.remove(waiting)
            if not own:
                del self._waiting[tenant]
