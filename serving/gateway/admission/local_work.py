"""A queue, fair among tenants, for the gateway's own work: detecting marks, moderating, verifying.

What a tenant was served counts by the size of its questions, as tokens do in front of the engines (`counters`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serving.gateway.admission.counters import Account, TokenCounters
from serving.gateway.errors import RETRY_AFTER, Overloaded, QueueFull
from serving.identity import Principal

# A question of these takes up to some seconds of a core: more waiting would wait in vain.
MOST_WAITING_OF_TENANT = 16
MOST_WAITING = 256
MAX_WAIT_S = 60.0


class _Waiter:
    """A request that waits for its slot."""

    model = ""
    slots = 1

    def __init__(self, account: Account[_Waiter], sequence: int, size: int) -> None:
        self.account = account
        self.tenant = account.tenant
        self.sequence = sequence
        self.size = size
        self.was_granted = False
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class LocalWork:
    """One kind of work, of which `most_at_a_time` pieces are done at once. Lives on the event loop."""

    def __init__(self, most_at_a_time: int) -> None:
        self._most = most_at_a_time
        self._counters: TokenCounters[_Waiter] = TokenCounters()
        self._sequence = itertools.count()
        self._running = 0

    @asynccontextmanager
    async def slot(self, who: Principal, size: int) -> AsyncIterator[None]:
        """Held while a request of `size` bytes is worked on.

        Raises:
            QueueFull: too many questions of the tenant, or of all, wait already.
            Overloaded: no slot became free in time.
        """
        account = self._counters.account(who.tenant, who.weight)
        if self._running < self._most and not self._counters.num_waiting:
            self._begin(account, size)
        else:
            await self._wait(account, size)
        try:
            yield
        finally:
            self._end(account)

    async def _wait(self, account: Account[_Waiter], size: int) -> None:
        counters = self._counters
        if account.num_waiting >= MOST_WAITING_OF_TENANT or counters.num_waiting >= MOST_WAITING:
            raise QueueFull("Too many questions of this kind wait already. Try again later.", headers=RETRY_AFTER)
        waiter = _Waiter(account, next(self._sequence), size)
        counters.wait(account, waiter)
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                await waiter.future
        except BaseException as error:
            if waiter.was_granted:
                self._end(account)  # it came in the same moment
            else:
                counters.withdraw(account, waiter)
            if isinstance(error, TimeoutError):
                raise Overloaded("It waited too long in the queue. Try again later.", headers=RETRY_AFTER) from None
            raise

    def _begin(self, account: Account[_Waiter], size: int) -> None:
        self._running += 1
        self._counters.begin(account, size)

    def _end(self, account: Account[_Waiter]) -> None:
        self._running -= 1
        self._counters.end(account)
        while self._running < self._most and (waiter := self._counters.next(_anyone)) is not None:
            waiter.was_granted = True
            self._begin(waiter.account, waiter.size)
            if not waiter.future.done():  # its client has just left, and its task is yet to run
                waiter.future.set_result(None)


def _anyone(tenant: str, model: str, slots: int) -> bool:
    return True
