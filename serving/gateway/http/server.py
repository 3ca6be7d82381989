"""Starts, drains and stops: all connections of one process, and the application's lifespan."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from email.utils import formatdate
from socket import socket
from typing import Any

from serving.gateway.errors import BadRequest, GatewayError
from serving.gateway.http.buffers import Buffers
from serving.gateway.http.connection import Connection
from serving.gateway.http.cors import Cors
from serving.gateway.http.heads import refusal
from serving.gateway.http.lifespan import Lifespan
from serving.gateway.http.settings import CorsSettings, HttpSettings, TlsSettings
from serving.gateway.http.tls import Tls
from serving.gateway.wire import AsgiApp

log = logging.getLogger(__name__)

BACKLOG = 4096
# Connections above the limit that only `probe_paths` are answered on.
PROBE_RESERVE = 64
# Seconds between two looks at the deadlines of all connections; also how old the Date header may be.
SCAN_INTERVAL_S = 1.0
# Requests begun in one turn of the event loop. When many come at once, those in front get to their engines and back
# while those behind still wait, instead of all waiting for all.
BEGUN_PER_TURN = 16
# An answer that is cancelled at the end of a drain gets this long to say so to its client.
LAST_WORDS_S = 1.0
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Server:
    """Serves one ASGI application. All methods are called from the event loop that `start` was awaited in.

    Args:
        app: what answers.
        settings: bounds of connections and requests.
        max_body_bytes: larger bodies are refused with 413, by their Content-Length before a byte of them is read.
        tls: certificates; None for plain HTTP.
        cors: origins whose pages may ask; None: none.
        probe_paths: paths that are answered even when `max_connections` are open.
        names_below: prefixes of paths whose rest is a name that may hold slashes, as it is or percent-encoded.
        on_refused: told the error code of everything that the server refuses without asking the application.
        holder_of: whose request it is, by its header fields, as far as that is known without waiting; else None.
    """

    def __init__(
        self,
        app: AsgiApp,
        settings: HttpSettings,
        *,
        max_body_bytes: int,
        tls: TlsSettings | None = None,
        cors: CorsSettings | None = None,
        probe_paths: Collection[str] = (),
        names_below: Collection[str] = (),
        on_refused: Callable[[str], None] = lambda code: None,
        holder_of: Callable[[dict[bytes, bytes]], str | None] = lambda headers: "",
    ) -> None:
        self.app = app
        self.settings = settings
        self.max_body_bytes = max_body_bytes
        self.probe_paths = frozenset(path.encode() for path in probe_paths)
        self.names_below = tuple(prefix.encode() for prefix in names_below)
        self.refused = on_refused
        self.holder_of = holder_of
        self.cors: Cors | None = None
        if cors is not None:
            self.apply_cors(cors)
        self.buffers = Buffers(settings.max_buffered_bytes)
        self.draining = False
        self.loop: asyncio.AbstractEventLoop
        self.now = 0.0
        """Loop time of the next look at the deadlines: one that counts from here never ends too early."""
        self.date_line = b""
        self._tls = Tls(tls, self._serve, self._not_tls) if tls is not None else None
        self._lifespan = Lifespan(app)
        self._listeners: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._interval = SCAN_INTERVAL_S
        self._empty = asyncio.Event()
        self._num_begun = 0
        self._to_begin: deque[Connection] = deque()

    @property
    def num_connections(self) -> int:
        return len(self._connections)

    async def start(self, sockets: Sequence[socket]) -> None:
        """Start the application, then accept on the bound `sockets`.

        Raises:
            RuntimeError: the application did not start.
        """
        self.loop = asyncio.get_running_loop()
        self._empty.set()
        self.apply(self.settings)
        self._look()
        await self._lifespan.start()
        accept = self._serve if self._tls is None else self._tls.accept
        for each in sockets:
            self._listeners.append(await self.loop.create_server(accept, sock=each, backlog=BACKLOG))

    def apply(self, settings: HttpSettings) -> None:
        """Use other bounds from now on; open connections keep their write buffer."""
        self.settings = settings
        self.buffers.limit = settings.max_buffered_bytes
        shortest = min(settings.head_timeout_s, settings.body_timeout_s, settings.keep_alive_s)
        self._interval = min(SCAN_INTERVAL_S, shortest / 2, settings.slow_reader_timeout_s / 2)
        if self._tls is not None:
            self._tls.max_handshakes = settings.max_connections

    def apply_cors(self, settings: CorsSettings) -> None:
        """Let pages of these origins ask from now on."""
        self.cors = Cors(settings.origins, settings.max_age_s) if settings.origins else None

    def renew_certificates(self) -> None:
        """Read the certificate files again, for connections to come.

        Raises:
            ValueError: they cannot be used; those in use stay.
        """
        if self._tls is not None:
            self._tls.renew()

    def stop_accepting(self) -> None:
        """Take no new connections. Those that are open go on."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def drain(self, timeout_s: float) -> bool:
        """Close idle connections at once and the others after the answer they are at, for `timeout_s` at the most.

        Returns:
            whether all answers were finished in time; those that were not are cancelled.
        """
        self.stop_accepting()
        self.draining = True
        if self._tls is not None:
            self._tls.cut_off_before(self.loop.time())
        for connection in tuple(self._connections):
            if connection.idle:
                connection.close()
        if await self._emptied(timeout_s):
            return True
        for connection in tuple(self._connections):
            connection.cancel()
        await self._emptied(LAST_WORDS_S)
        return False

    async def stop(self) -> None:
        """Cut off what is left and stop the application."""
        self.stop_accepting()
        if self._tls is not None:
            self._tls.cut_off_before(self.loop.time())
        for connection in tuple(self._connections):
            connection.abort()
        await self._emptied(LAST_WORDS_S)
        if self._timer is not None:
            self._timer.cancel()
        await self._lifespan.stop()

    # What connections call.

    def admit(self, connection: Connection) -> bool | None:
        """Count a connection: True, or False where only probes are answered on it, or None when there is no room."""
        self._connections.add(connection)
        self._empty.clear()
        above = len(self._connections) - self.settings.max_connections
        if above <= 0:
            return True
        return False if above <= PROBE_RESERVE else None

    def begin(self, connection: Connection) -> None:
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

    def forget(self, connection: Connection) -> None:
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
            "scheme": "http" if self._tls is None else "https",
            "root_path": "",
            "client": tuple(client[:2]) if isinstance(client, tuple) else None,
            "server": tuple(server[:2]) if isinstance(server, tuple) else None,
        }

    def _look(self) -> None:
        """Once an interval: the date, and every connection whose time is up. No connection has a timer of its own."""
        now = self.loop.time()
        self.now = now + self._interval
        self.date_line = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        for connection in tuple(self._connections):
            if connection.deadline <= now:
                connection.expire()
            if connection.unsent_since:
                connection.check_reader(now)
        if self._tls is not None:
            self._tls.cut_off_before(now - self.settings.head_timeout_s)
        self._timer = self.loop.call_later(self._interval, self._look)

    def _serve(self) -> Connection:
        return Connection(self)

    def _not_tls(self) -> bytes:
        message = "This port speaks HTTPS: ask https:// instead of http://."
        return refusal(BadRequest(message, code="malformed_http"), self.date_line)

    async def _emptied(self, timeout_s: float) -> bool:
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            return False
        return True
