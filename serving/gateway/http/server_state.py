"""What all connections of one process share: limits, buffers, the clock, and which of them may start a request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Protocol

from serving.gateway.asgi import AsgiApp
from serving.gateway.errors import GatewayError
from serving.gateway.http.buffers import Buffers
from serving.gateway.http.cors import Cors
from serving.gateway.http.settings import HttpSettings

# Connections above the limit that only `probe_paths` are answered on.
PROBE_RESERVE = 64
# Requests begun in one turn of the event loop. When many come at once, those in front get to their engines and back
# while those behind still wait, instead of all waiting for all.
BEGUN_PER_TURN = 16
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class ManagedConnection(Protocol):
    """A connection, as its host knows it."""

    deadline: float
    unsent_since: float

    @property
    def idle(self) -> bool:
        """No request is under way, not even a part of one."""

    def begin(self) -> None:
        """Answer what waits: it is this connection's turn."""

    def expire(self) -> None:
        """The deadline has passed."""

    def check_reader(self, now: float) -> None:
        """Cut off a client that leaves its full write buffer untouched for too long."""

    def close(self) -> None:
        """Close when all is sent."""

    def cancel(self) -> None:
        """Have the application end its answer now."""

    def abort(self) -> None:
        """Close at once."""


class ServerState:
    """The server, as its connections know it. Its arguments are `Server`'s; `scheme` is what requests' scopes say."""

    def __init__(
        self,
        app: AsgiApp,
        settings: HttpSettings,
        *,
        max_body_bytes: int,
        scheme: str,
        probe_paths: Collection[str],
        names_below: Collection[str],
        on_refused: Callable[[str], None],
        holder_of: Callable[[dict[bytes, bytes]], str | None],
    ) -> None:
        self.app = app
        self.settings = settings
        self.max_body_bytes = max_body_bytes
        self.probe_paths = frozenset(path.encode() for path in probe_paths)
        self.names_below = tuple(prefix.encode() for prefix in names_below)
        self.refused = on_refused
        self.holder_of = holder_of
        self.cors: Cors | None = None
        self.buffers = Buffers(settings.max_buffered_bytes)
        self.draining = False
        self.loop: asyncio.AbstractEventLoop
        self.now = 0.0
        """Loop time of the next look at the deadlines: one that counts from here never ends too early."""
        self.date_line = b""
        self._scheme = scheme
        self._connections: set[ManagedConnection] = set()
        self._empty = asyncio.Event()
        self._num_begun = 0
        self._to_begin: deque[ManagedConnection] = deque()

    @property
    def num_connections(self) -> int:
        return len(self._connections)

    def admit(self, connection: ManagedConnection) -> bool | None:
        """Count a connection: True, or False where only probes are answered on it, or None when there is no room."""
        self._connections.add(connection)
        self._empty.clear()
        above = len(self._connections) - self.settings.max_connections
        if above <= 0:
            return True
        return False if above <= PROBE_RESERVE else None

    def begin(self, connection: ManagedConnection) -> None:
        """Have a connection answer the request that has come, in this turn of the event loop or a later one."""
        if self._num_begun >= BEGUN_PER_TURN:
            self._to_begin.append(connection)
            return
        if not self._num_begun:
            self.loop.call_soon(self._next_turn)
        self._num_begun += 1
        connection.begin()

    def _next_turn(self) -> None:
        self._num_begun = 0
        while self._to_begin and self._num_begun < BEGUN_PER_TURN:
            self.begin(self._to_begin.popleft())

    def forget(self, connection: ManagedConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def full(self) -> GatewayError:
        message = "The gateway has as many connections as it may have. Try again shortly."
        return GatewayError(message, code="too_many_connections", status=503, headers=((b"retry-after", b"2"),))

    def buffers_full(self) -> GatewayError:
        message = "The gateway holds as many bytes of requests as it may, of this client or of all. Try again shortly."
        return GatewayError(message, code="buffers_full", status=503, headers=((b"retry-after", b"2"),))

    def origin(self, transport: asyncio.Transport) -> dict[str, Any]:
        """What the scopes of one connection's requests share."""
        client, server = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        return {
            "asgi": _ASGI,
            "scheme": self._scheme,
            "root_path": "",
            "client": tuple(client[:2]) if isinstance(client, tuple) else None,
            "server": tuple(server[:2]) if isinstance(server, tuple) else None,
        }
