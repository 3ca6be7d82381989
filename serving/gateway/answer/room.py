"""Room for the bytes of an answer that the gateway holds until it is complete."""

from __future__ import annotations

import asyncio

from serving.gateway.errors import AnswerTooLarge, Overloaded
from serving.http.asgi import Client
from serving.http.client import UpstreamResponse

# An answer of so many bytes is not counted: most are smaller.
UNCOUNTED_BYTES = 64 * 1024
_ROOM_WAIT_S = 30.0


class AnswerRoom:
    """One answer's share of all the bytes that the process may hold, and of its tenant's."""

    def __init__(self, client: Client, tenant: str, max_bytes: int) -> None:
        """`max_bytes`: the largest answer that is read."""
        self._client = client
        self._tenant = tenant
        self._max_bytes = max_bytes
        self._held = 0

    async def read(self, response: UpstreamResponse) -> bytes:
        """A whole answer.

        Raises:
            UpstreamError: it could not be read to its end.
            AnswerTooLarge: reading ended at the limit.
            Overloaded: there is no room for it.
        """
        body = response.whole(min(self._max_bytes, UNCOUNTED_BYTES))
        if body is not None:
            return body
        length = response.header(b"content-length")
        if length.isdigit():
            if int(length[:20]) > self._max_bytes:
                raise self._too_large()
            await self._wait(int(length))
        parts: list[bytes] = []
        size = 0
        while data := await response.piece():
            parts.append(data)
            size += len(data)
            self.hold(size)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def hold(self, size: int) -> None:
        """Of an answer whose length is not known beforehand `size` bytes have come.

        It does not wait: two that have come by half would wait for each other.

        Raises:
            AnswerTooLarge: they are more than an answer may have.
            Overloaded: there is no room for them.
        """
        if size > self._max_bytes:
            raise self._too_large()
        if size <= self._held + UNCOUNTED_BYTES:
            return
        if not self._client.hold(self._tenant, size - self._held):
            raise _no_room()
        self._held = size

    async def _wait(self, size: int) -> None:
        """Leave an answer of `size` bytes with its engine until there is room. Overloaded: there was none in time."""
        if size <= self._held + UNCOUNTED_BYTES:
            return
        try:
            async with asyncio.timeout(_ROOM_WAIT_S):
                await self._client.wait_for_room(self._tenant, size - self._held)
        except TimeoutError:
            raise _no_room() from None
        self._held = size

    def _too_large(self) -> AnswerTooLarge:
        return AnswerTooLarge(
            f"The answer is larger than {self._max_bytes} bytes. Ask for fewer answers, tokens or log-probabilities, "
            "or stream it."
        )


def _no_room() -> Overloaded:
    message = "The gateway holds as many bytes of answers as it may, of this tenant or of all. Try again shortly."
    return Overloaded(message, code="buffers_full", headers=((b"retry-after", b"2"),))
