"""A client's socket: read and written only as fast as both ends keep up, and closed on time."""

from __future__ import annotations

import asyncio
import enum
import math

from serving.http.state import ServerState

# A client that is still sending when it is refused gets this long to read why, before its connection is reset.
LINGER_S = 2.0


class Phase(enum.Enum):
    """What is awaited from the client."""

    IDLE = "a request"
    HEAD = "the rest of a head"
    BODY = "the rest of a body"
    CLOSING = "the end of the connection"


class FlowControl:
    """What everything that belongs to one connection shares: its transport, its phase and its deadline."""

    __slots__ = (
        "_drained",
        "_unsent",
        "closed",
        "deadline",
        "discards_input",
        "phase",
        "reading",
        "server",
        "transport",
        "unsent_since",
        "write_paused",
    )

    def __init__(self, server: ServerState) -> None:
        self.server = server
        self.transport: asyncio.Transport | None = None
        self.phase = Phase.IDLE
        self.deadline = math.inf
        """Loop time at which the phase has lasted too long."""
        self.closed = False
        self.discards_input = False
        """What still comes is thrown away unparsed."""
        self.reading = True
        self.write_paused = False
        self.unsent_since = 0.0
        """Loop time since when a full write buffer has not shrunk; 0 while it is not full."""
        self._drained: asyncio.Future[None] | None = None
        self._unsent = 0

    def write(self, data: bytes) -> None:
        if not self.closed:
            assert self.transport is not None
            self.transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has read enough, or is gone."""
        while self.write_paused and not self.closed:
            self._drained = self.server.loop.create_future()
            await self._drained

    def pause_writing(self) -> None:
        assert self.transport is not None
        self.write_paused = True
        self._unsent = self.transport.get_write_buffer_size()
        self.unsent_since = self.server.now

    def resume_writing(self) -> None:
        self.write_paused = False
        self.unsent_since = 0.0
        self._wake_writer()

    def read(self, wanted: bool) -> None:
        """Read from the client, or leave what it sends in its socket."""
        wanted = wanted or self.discards_input
        if wanted != self.reading and self.transport is not None:
            self.reading = wanted
            (self.transport.resume_reading if wanted else self.transport.pause_reading)()

    def check_reader(self, now: float) -> None:
        """Cut off a client that leaves its full write buffer untouched for too long."""
        assert self.transport is not None
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent, self.unsent_since = unsent, self.server.now
        elif now - self.unsent_since > self.server.settings.slow_reader_timeout_s:
            self.server.refused("slow_reader")
            self.abort()

    def end(self, *, discard: bool) -> None:
        """Close when all is sent. With `discard` the client may still be sending, and a reset would lose our answer."""
        if self.closed:
            return
        assert self.transport is not None
        self.discards_input = True
        self.phase = Phase.CLOSING
        if discard and self.transport.can_write_eof():
            self.deadline = self.server.now + LINGER_S
            self.transport.write_eof()
            self.read(True)
        else:
            self.deadline = self.server.now + self.server.settings.slow_reader_timeout_s
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.discards_input = True
        if self.transport is not None and not self.closed:
            self.transport.abort()

    def lost(self) -> None:
        """The connection is closed."""
        self.closed = self.discards_input = True
        self._wake_writer()
        # The transport knows the connection: a cycle would keep both until a garbage collection.
        self.transport = None

    def _wake_writer(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
