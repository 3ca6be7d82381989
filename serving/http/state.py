"""What all connections of one process share: limits, buffers, the clock, and which of them may start a request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from serving.http.asgi import AsgiApp
from serving.http.buffers import Buffers
from serving.http.cors import Cors
from serving.http.errors import SINGLETONS, HttpError
from serving.http.heads import refusal
from serving.http.settings import CorsSettings, HttpSettings

# Connections above the limit that only `probe_paths` are answered on.
PROBE_RESERVE = 64
# Requests begun in one turn of the event loop. When many come at once, those in front are answered
# while those behind still wait, instead of all waiting for all.
BEGUN_PER_TURN = 16
_ASGI = {"version": "3.0", "spec_version": "2.3"}


@dataclass(frozen=True, slots=True)
class ServedApp:
    """An application, and what it tells its server of itself."""

    app: AsgiApp
    error_body: Callable[[HttpError], bytes]
    """The JSON of the server's own refusals."""
    probe_paths: Collection[str] = ()
    """Paths that are answered even when `max_connections` are open."""
    names_below: Collection[str] = ()
    """Prefixes of paths whose rest is a name that may hold slashes, as it is or percent-encoded."""
    single_fields: Collection[bytes] = ()
    """Fields of its own, in lower case, that a request may have once."""
    requested_fields: bytes = b"authorization, content-type"
    exposed_fields: bytes = b"Retry-After"
    """Of requests and answers of pages of other origins: see `Cors`."""
    on_refused: Callable[[str], None] = lambda code: None
    """Told the error code of everything that the server refuses without asking the application."""
    holder_of: Callable[[dict[bytes, bytes]], str | None] = lambda headers: ""
    """Whose request it is, by its header fields, as far as that is known without waiting; else None."""


class ManagedConnection(Protocol):
    """A connection, as the server knows it."""

    @property
    def idle(self) -> bool:
        """No request is under way, not even a part of one."""

    def look(self, now: float) -> None:
        """Once an interval: whether the client has taken too long."""

    def close(self) -> None:
        """Close when all is sent."""

    def cancel(self) -> None:
        """Have the application end its answer now."""

    def abort(self) -> None:
        """Close at once."""


class Waiting(Protocol):
    """What has a request that may be answered."""

    def begin(self) -> None:
        """Answer it now: it has its turn."""


class ServerState:
    """The server, as its connections know it. Its arguments are `Server`'s; `scheme` is what requests' scopes say."""

    def __init__(
        self,
        served: ServedApp,
        settings: HttpSettings,
        *,
        max_body_bytes: int,
        scheme: str,
    ) -> None:
        self.app = served.app
        self.settings = settings
        self.max_body_bytes = max_body_bytes
        self.probe_paths = frozenset(path.encode() for path in served.probe_paths)
        self.names_below = tuple(prefix.encode() for prefix in served.names_below)
        self.singletons = SINGLETONS.union(served.single_fields)
        self.refused = served.on_refused
        self.holder_of = served.holder_of
        self.cors: Cors | None = None
        self.buffers = Buffers(settings.max_buffered_bytes)
        self.draining = False
        self.loop: asyncio.AbstractEventLoop
        self.now = 0.0
        """Loop time of the next look at the deadlines: one that counts from here never ends too early."""
        self.date_line = b""
        self._served = served
        self._scheme = scheme
        self._connections: set[ManagedConnection] = set()
        self._empty = asyncio.Event()
        self._num_begun = 0
        self._to_begin: deque[Waiting] = deque()

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

    def begin(self, waiting: Waiting) -> None:
        """Have a connection answer the request that has come, in this turn of the event loop or a later one."""
        if self._num_begun >= BEGUN_PER_TURN:
            self._to_begin.append(waiting)
            return
        if not self._num_begun:
            self.loop.call_soon(self._next_turn)
        self._num_begun += 1
        waiting.begin()

    def _next_turn(self) -> None:
        self._num_begun = 0
        while self._to_begin and self._num_begun < BEGUN_PER_TURN:
            self.begin(self._to_begin.popleft())

    def forget(self, connection: ManagedConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def refusal(self, error: HttpError, lines: bytes = b"") -> bytes:
        """A whole answer, after which the connection is closed; `lines` are further header lines."""
        return refusal(error, self._served.error_body(error), self.date_line, lines)

    def apply_cors(self, settings: CorsSettings) -> None:
        """Let pages of these origins ask from now on."""
        served = self._served
        self.cors = None
        if settings.origins:
            self.cors = Cors(settings.origins, settings.max_age_s, served.requested_fields, served.exposed_fields)

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
