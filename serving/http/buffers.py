"""Bytes of requests and whole answers that one process holds, and how many of them may be one holder's."""

from __future__ import annotations

import asyncio

# What a request takes besides its bytes: objects for it, its scope, and each of its fields.
REQUEST_BYTES = 2048
FIELD_BYTES = 256
# A request of so many bytes is not counted, unless it waits behind another of its connection: most are smaller.
SMALL_BYTES = 16 * 1024
# Of all, what requests may take whose holder is not known (yet), and those of one holder.
STRANGERS = 16
ONE_HOLDER = 2


class Buffers:
    """Counts requests from their first bytes to the end of their answers. `None` stands for all holders not known.

    Args:
        limit: bytes of all together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._by_holder: dict[str | None, int] = {}
        self._waiting: dict[asyncio.Future[None], tuple[str, int]] = {}
        """Who came first is first."""

    def hold(self, holder: str | None, size: int) -> bool:
        """Count `size` more bytes; False, and nothing is counted, where there is no room for them."""
        held = self._by_holder.get(holder, 0) + size
        if held > self.limit // (STRANGERS if holder is None else ONE_HOLDER) or self.held + size > self.limit:
            return False
        self._by_holder[holder] = held
        self.held += size
        return True

    def release(self, holder: str | None, size: int) -> None:
        """`size` bytes are held no more."""
        self.held -= size
        left = self._by_holder[holder] - size
        if left:
            self._by_holder[holder] = left
        else:
            del self._by_holder[holder]
        if self._waiting:
            self._let_in()

    def hand_over(self, holder: str, size: int) -> None:
        """A request of `size` bytes whose holder was not known is `holder`'s."""
        self.release(None, size)
        self.held += size
        self._by_holder[holder] = self._by_holder.get(holder, 0) + size

    async def wait(self, holder: str, size: int) -> None:
        """Count `size` more bytes once there is room for them, after those that have waited longer.

        What is larger than a holder's share waits for ever: bound the time.
        """
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[admitted] = holder, size
        self._let_in()
        try:
            await admitted
        except asyncio.CancelledError:
            if self._waiting.pop(admitted, None) is None:
                self.release(holder, size)  # it came in the same moment
            raise

    def _let_in(self) -> None:
        at_their_share: set[str] = set()
        for admitted, (holder, size) in tuple(self._waiting.items()):
            if holder in at_their_share:
                continue
            if self.hold(holder, size):
                del self._waiting[admitted]
                admitted.set_result(None)
            elif self.held + size > self.limit:
                break  # nobody smaller goes first, or what is large would wait for ever
            else:
                at_their_share.add(holder)
