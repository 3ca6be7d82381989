"""The writing half of a connection: waits while the client does not read, and closes on one that never does."""

from __future__ import annotations

import asyncio

from serving.gateway.http.server_state import ServerState


class FlowControl(asyncio.Protocol):
    """A connection, as far as it writes."""

    __slots__ = ("_drained", "_transport", "_unsent", "closed", "server", "unsent_since", "write_paused")

    def __init__(self, server: ServerState) -> None:
        self.server = server
        self.closed = False
        self.write_paused = False
        self.unsent_since = 0.0
        """Loop time since when a full write buffer has not shrunk; 0 while it is not full."""
        self._transport: asyncio.Transport | None = None
        self._drained: asyncio.Future[None] | None = None
        self._unsent = 0

    # asyncio.Protocol

    def pause_writing(self) -> None:
        assert self._transport is not None
        self.write_paused = True
        self._unsent = self._transport.get_write_buffer_size()
        self.unsent_since = self.server.now

    def resume_writing(self) -> None:
        self.write_paused = False
        self.unsent_since = 0.0
        self._wake_writer()

    # The rest of the connection, requests and the server

    def write(self, data: bytes) -> None:
        if not self.closed:
            assert self._transport is not None
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has read enough, or is gone."""
        while self.write_paused and not self.closed:
            self._drained = self.server.loop.create_future()
            await self._drained

    def check_reader(self, now: float) -> None:
        """Cut off a client that leaves its full write buffer untouched for too long."""
        assert self._transport is not None
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent, self.unsent_since = unsent, self.server.now
        elif now - self.unsent_since > self.server.settings.slow_reader_timeout_s:
            self.server.refused("slow_reader")
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None and not self.closed:
            self._transport.abort()

    def _wake_writer(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
