"""One client connection, as the event loop and the server know it."""

from __future__ import annotations

import asyncio
from typing import cast

from serving.http.answering import RequestQueue
from serving.http.errors import HttpError, connections_full
from serving.http.flow import FlowControl, Phase
from serving.http.reader import RequestReader
from serving.http.state import ServerState


class Connection(asyncio.Protocol):
    """Bytes go to the reader, requests from there to the queue, answers through the flow control to the socket."""

    __slots__ = ("_flow", "_reader", "_requests", "_server")

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self._flow = FlowControl(server)
        self._requests = RequestQueue(self._flow)
        self._reader: RequestReader | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server, flow = self._server, self._flow
        # uvloop's transports have the interface without the base class.
        flow.transport = cast(asyncio.Transport, transport)
        flow.transport.set_write_buffer_limits(server.settings.write_buffer_bytes)
        room = server.admit(self)
        if room is None:
            flow.write(server.refusal(connections_full()))
            flow.end(discard=True)
            return
        self._reader = RequestReader(flow, self._requests, server.origin(flow.transport), probes_only=not room)
        flow.deadline = server.now + server.settings.head_timeout_s

    def data_received(self, data: bytes) -> None:
        if not self._flow.discards_input and self._reader is not None:
            self._reader.feed(data)

    def eof_received(self) -> None:
        """A client that has said its last word is taken to be gone: the transport closes."""

    def pause_writing(self) -> None:
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        self._flow.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._flow.lost()
        self._server.forget(self)
        self._requests.lost()
        if self._reader is not None:
            self._reader.lost()

    # What the server calls

    @property
    def idle(self) -> bool:
        """No request is under way, not even a part of one."""
        return self._requests.idle and self._flow.phase is Phase.IDLE

    def look(self, now: float) -> None:
        """Once an interval: whether the client has taken too long."""
        flow = self._flow
        if flow.deadline <= now:
            self._expire()
        if flow.unsent_since:
            flow.check_reader(now)

    def close(self) -> None:
        """Close when all is sent."""
        self._flow.end(discard=False)

    def cancel(self) -> None:
        """Have the application end its answer now."""
        self._requests.cancel()

    def abort(self) -> None:
        """Close at once."""
        self._flow.abort()

    def _expire(self) -> None:
        flow, settings = self._flow, self._server.settings
        if flow.phase is Phase.CLOSING:
            flow.abort()
        elif flow.phase is Phase.IDLE:
            self.close()
        elif self._requests.is_behind:
            flow.deadline = self._server.now + settings.head_timeout_s  # an answer before it is still under way
        elif self._reader is not None:
            seconds = settings.head_timeout_s if flow.phase is Phase.HEAD else settings.body_timeout_s
            what = "head" if flow.phase is Phase.HEAD else "body"
            message = f"The request's {what} did not come within {seconds:g} s."
            self._reader.refuse(HttpError(408, "request_timeout", message))
