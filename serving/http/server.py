"""Starts, drains and stops: all connections of one process, and the application's lifespan."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from email.utils import formatdate
from socket import socket

from serving.http.asgi import Lifespan
from serving.http.connection import Connection
from serving.http.errors import HttpError
from serving.http.settings import CorsSettings, HttpSettings, TlsSettings
from serving.http.state import ServedApp, ServerState
from serving.http.tls import Tls

log = logging.getLogger(__name__)

BACKLOG = 4096
# Seconds between two looks at the deadlines of all connections; also how old the Date header may be.
SCAN_INTERVAL_S = 1.0
# An answer that is cancelled at the end of a drain gets this long to say so to its client.
LAST_WORDS_S = 1.0


class Server(ServerState):
    """Serves one ASGI application. All methods are called from the event loop that `start` was awaited in.

    Args:
        served: what answers.
        settings: bounds of connections and requests.
        max_body_bytes: larger bodies are refused with 413, by their Content-Length before a byte of them is read.
        tls: certificates; None for plain HTTP.
        cors: origins whose pages may ask; None: none.
    """

    def __init__(
        self,
        served: ServedApp,
        settings: HttpSettings,
        *,
        max_body_bytes: int,
        tls: TlsSettings | None = None,
        cors: CorsSettings | None = None,
    ) -> None:
        scheme = "http" if tls is None else "https"
        super().__init__(served, settings, max_body_bytes=max_body_bytes, scheme=scheme)
        if cors is not None:
            self.apply_cors(cors)
        self._tls = Tls(tls, self._serve, self._not_tls) if tls is not None else None
        self._lifespan = Lifespan(served.app)
        self._listeners: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self._interval = SCAN_INTERVAL_S

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
        for listener in sockets:
            self._listeners.append(await self.loop.create_server(accept, sock=listener, backlog=BACKLOG))

    def apply(self, settings: HttpSettings) -> None:
        """Use other bounds from now on; open connections keep their write buffer."""
        self.settings = settings
        self.buffers.limit = settings.max_buffered_bytes
        shortest = min(settings.head_timeout_s, settings.body_timeout_s, settings.keep_alive_s)
        self._interval = min(SCAN_INTERVAL_S, shortest / 2, settings.slow_reader_timeout_s / 2)
        if self._tls is not None:
            self._tls.max_handshakes = settings.max_connections

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

    def _look(self) -> None:
        """Once an interval: the date, and every connection whose time is up. No connection has a timer of its own."""
        now = self.loop.time()
        self.now = now + self._interval
        self.date_line = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"
        for connection in tuple(self._connections):
            connection.look(now)
        if self._tls is not None:
            self._tls.cut_off_before(now - self.settings.head_timeout_s)
        self._timer = self.loop.call_later(self._interval, self._look)

    def _serve(self) -> Connection:
        return Connection(self)

    def _not_tls(self) -> bytes:
        message = "This port speaks HTTPS: ask https:// instead of http://."
        return self.refusal(HttpError(400, "malformed_http", message))

    async def _emptied(self, timeout_s: float) -> bool:
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            return False
        return True
