"""A pooled HTTP/1.1 client: one asyncio protocol on httptools, no layers between socket and reader.

General clients cost several times the CPU (docs/decisions/003). This one does what a gateway needs and no more:
keep-alive, chunked bodies, backpressure, a timeout for every wait, and a second try when a kept-alive connection
turns out to have been closed by the server before it answered anything.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from serving.masking import masked_url

# Above this many unread bytes the socket is no longer read: a slow reader then slows the server, not our memory.
HIGH_WATER_BYTES = 256 * 1024
_FRAMING = (b"content-length", b"transfer-encoding")
AtOnce = Callable[[bytes], bytes | None]
# Seconds between two looks at the deadlines of all connections in use: a wait has no timer of its own.
SCAN_INTERVAL_S = 1.0
# An answer that has said its last word may take this long to end on the wire before its connection is dropped.
LAST_BYTES_S = 1.0


class UpstreamError(Exception):
    """The server could not be reached, broke the connection off, or broke the protocol."""


class UpstreamTimeout(UpstreamError):
    """The server stayed silent for longer than the time allowed."""


class ConnectTimeout(UpstreamTimeout):
    """The server did not take the connection in time: it has seen nothing of the request."""


class UpstreamSilent(UpstreamError):
    """The server stayed silent, and was given up before its time because it is lost."""


class _ClosedBeforeAnswer(UpstreamError):
    """The connection ended before a byte of the answer came: safe to send again on another connection."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait: for the connection, for the answer's head, and between two pieces of its body."""

    connect: float
    first_byte: float
    idle: float


@dataclass(frozen=True, slots=True)
class StallPolicy:
    """After every `seconds` of silence, ask whether the server `is_lost`; if so, stop waiting."""

    seconds: float
    is_lost: Callable[[], bool]


class Connection(asyncio.Protocol):
    """One connection, one request at a time. Owned by the pool while idle, by the response while in use."""

    def __init__(self, pool: UpstreamPool) -> None:
        self._pool = pool
        self._loop = pool.loop
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._in_use = False
        self._waiter: asyncio.Future[bytes | None] | None = None
        self._at_once: AtOnce | None = None
        self.deadline = math.inf
        """Loop time at which `expire` is due."""
        self._timeout = self._time_left = 0.0
        self.stall_policy: StallPolicy | None = None
        self._draining = False
        self._chunks: deque[bytes] = deque()
        self.num_buffered = 0
        self._paused = False
        self._error: UpstreamError | None = None
        self._keep_alive = False
        self._ends_with_connection = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_complete = False
        self.complete = False
        self.closed = False
        self.used = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._in_use:
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(UpstreamError(f"{self._pool.peer} sent malformed HTTP: {error}"))
            return
        if self._draining:
            self._chunks.clear()
            if self.complete:
                self._draining = False
                self.release(answer_complete=True)
            return
        if self._at_once is not None and self._deal_with(self._at_once):
            return
        if self.num_buffered > HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._pool.forget(self)
        if self._in_use and not self.complete and self._error is None:
            if self.head_complete and self._ends_with_connection and exc is None:
                self.complete = True
            elif self.head_complete:
                self._error = UpstreamError(f"{self._pool.peer} closed the connection in the middle of its answer")
            else:
                self._error = _ClosedBeforeAnswer(f"{self._pool.peer} closed the connection before it answered")
        self._wake()
        # Both know this connection: a cycle would keep all of its answer until a garbage collection.
        self._parser = self._transport = None

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _FRAMING:
            self._ends_with_connection = False
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self.head_complete = True
        else:
            self.headers = []
            self._ends_with_connection = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self.num_buffered += len(body)

    def on_message_complete(self) -> None:
        if self.head_complete:
            self.complete = True
            self._keep_alive = self._parser.should_keep_alive()

    def send(self, request: bytes, stall_policy: StallPolicy | None = None) -> None:
        """Start a request; forgets everything of the one before."""
        assert self._transport is not None
        self._in_use = True
        self._chunks.clear()
        self.num_buffered = 0
        self._error = None
        # RFC 9112, section 6.3: a body without a length ends with its connection.
        self._ends_with_connection = True
        self._keep_alive = self.head_complete = self.complete = False
        self.headers = []
        self.stall_policy = stall_policy
        self._transport.write(request)

    async def head(self, timeout: float) -> None:
        """Wait until status and headers are known.

        Raises:
            UpstreamError: the connection ended, the bytes were not HTTP, or `timeout` seconds passed.
        """
        while not self.head_complete:
            await self.arrival(timeout)
        self.deadline = math.inf

    def take(self) -> bytes | None:
        """What has arrived of the body since the last call; b"" when the body is complete, None when not yet."""
        if not self._chunks:
            return b"" if self.complete else None
        self.deadline = math.inf
        data = self._take_chunks()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def _take_chunks(self) -> bytes:
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self.num_buffered = 0
        return data

    def _deal_with(self, at_once: AtOnce) -> bool:
        """Whether what has come needs nobody to be woken for it, or only for what is left of it."""
        waiter = self._waiter
        if waiter is None or waiter.done() or self.complete or not self._chunks:
            return False
        try:
            rest = at_once(self._take_chunks())
            if rest is None:
                self._time_left = self._timeout
                self._set_deadline()
            elif not waiter.done():  # its task may have been cancelled meanwhile
                waiter.set_result(rest)
        except Exception as error:
            if not waiter.done():
                waiter.set_exception(error)
        return True

    def release(self, answer_complete: bool) -> None:
        """Give the connection back when its answer is read to the end, close it otherwise.

        With `answer_complete`, only the end of the HTTP body is missing: wait a moment for it.
        """
        self._waiter = self._at_once = self.stall_policy = None
        self.deadline = math.inf
        if self.complete and self._keep_alive and not self.closed and not self._paused:
            self._in_use = False
            self.used = True
            self._pool.keep(self)
        elif answer_complete and not self.complete and not self.closed and not self._paused:
            self._draining = True
            self.deadline = self._pool.now + LAST_BYTES_S
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once; a server that is still writing sees its client gone and stops."""
        if self._transport is not None and not self.closed:
            self._transport.abort()

    def _fail(self, error: UpstreamError) -> None:
        self._error = error
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def arrival(self, timeout: float, at_once: AtOnce | None = None) -> asyncio.Future[bytes | None]:
        """Done when something has come, or the connection has failed: look again, unless it is a result that is there.

        Raises:
            UpstreamError: the connection has ended, the bytes were not HTTP, or `timeout` seconds have passed.
        """
        if self._error is not None:
            # A new one: its traceback knows this connection, which must not know it.
            raise type(self._error)(str(self._error))
        self._timeout = self._time_left = timeout
        self._at_once = at_once
        self._set_deadline()
        self._waiter = self._loop.create_future()
        return self._waiter

    def _set_deadline(self) -> None:
        step = self._time_left
        if self.stall_policy is not None and self.stall_policy.seconds < step:
            step = self.stall_policy.seconds
        self._time_left -= step
        self.deadline = self._pool.now + step

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = math.inf
        if self._draining:
            self.abort()
        elif self._time_left <= 0 or self.stall_policy is None:
            self._fail(UpstreamTimeout(f"{self._pool.peer} sent nothing for {self._timeout:g} s"))
        elif self.stall_policy.is_lost():
            self._fail(UpstreamSilent(f"{self._pool.peer} sent nothing for {self._timeout - self._time_left:g} s"))
        else:
            self._set_deadline()


class UpstreamResponse:
    """One answer being read. Must be closed; closing early makes the server stop writing."""

    def __init__(self, connection: Connection, timeouts: Timeouts) -> None:
        self._connection: Connection | None = connection
        self._idle = timeouts.idle
        self.status = connection.status
        self.headers = connection.headers

    def header(self, name: bytes) -> bytes:
        """The first value of a header (lower-case `name`), b"" when absent."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    def set_stall_policy(self, stall_policy: StallPolicy | None) -> None:
        """How to treat silence from now on."""
        assert self._connection is not None
        self._connection.stall_policy = stall_policy

    async def piece(self, at_once: AtOnce | None = None) -> bytes:
        """What came next of the body, several network reads joined when the reader was slower; empty at its end.

        What comes while this waits is given to `at_once` in the socket's callback, and only what that gives back is
        returned (None: nothing is left): a stream that waits for nothing wakes no task. What it raises is raised here.

        No async iterator: of each that is left before its end the event loop makes a task, to close it.
        """
        connection = self._connection
        assert connection is not None
        while (data := connection.take()) is None:
            rest = await connection.arrival(self._idle, at_once)
            if rest is not None:
                return rest
        return data

    def whole(self, most: int) -> bytes | None:
        """The body, where all of it has come and is `most` bytes at the most; None: it is to be read in pieces."""
        connection = self._connection
        assert connection is not None
        return connection.take() if connection.complete and connection.num_buffered <= most else None

    async def read(self, limit: int | None = None) -> bytes:
        """The whole body, or its first `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        while (limit is None or size < limit) and (data := await self.piece()):
            parts.append(data)
            size += len(data)
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return body if limit is None or size <= limit else body[:limit]

    def close(self, answer_complete: bool = False) -> None:
        """Give the connection back; with `answer_complete` nothing but the end of the HTTP body is still to come."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release(answer_complete)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was read whole."""

    status: int
    body: bytes
    retry_after: bytes


class UpstreamPool:
    """Connections to one server, reused last in, first out so that the spare ones grow old and are closed by it.

    Args:
        url: the server's base URL; a path prefix in it is kept.
        timeouts: how long each wait may take.
        max_connections: open connections at the most; a request above that fails at once.
        tls: for an https URL; default: the system's authorities and no certificate of our own.
        server_name: the name in the server's certificate, where the URL holds a bare address.
        peer: what errors call the server.
    """

    def __init__(
        self,
        url: str,
        timeouts: Timeouts,
        max_connections: int = 4096,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        peer: str = "the server",
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"URL {masked_url(url)!r} is not of the form http://HOST:PORT")
        self.loop = asyncio.get_running_loop()
        self.peer = peer
        self._timeouts = timeouts
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/").encode()
        self._ssl = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._server_name = (server_name or parts.hostname) if self._ssl is not None else None
        self._host_line = b"host: " + parts.netloc.rpartition("@")[2].encode() + b"\r\n"
        self.now = 0.0
        """Loop time of the next look at the deadlines: a wait that counts from here never ends too early."""
        shortest = min(timeouts.first_byte, timeouts.idle, LAST_BYTES_S)
        self._interval = min(SCAN_INTERVAL_S, shortest / 2)
        self._scanning = False
        self._idle: dict[Connection, None] = {}
        self._busy: set[Connection] = set()
        self._max_connections = max_connections
        self._open = 0
        self._closed = False

    async def request(
        self,
        method: bytes,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        stall_policy: StallPolicy | None = None,
    ) -> UpstreamResponse:
        """Send a request and wait for the head of its answer.

        Raises:
            UpstreamError: nothing could be had from the server; no part of an answer was consumed.
        """
        lines = [method, b" ", self._prefix, target, b" HTTP/1.1\r\n", self._host_line]
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        lines += (b"content-length: ", b"%d" % len(body), b"\r\n\r\n", body)
        data = b"".join(lines)
        while True:
            connection = self._idle.popitem()[0] if self._idle else await self._connect()
            self._busy.add(connection)
            if not self._scanning:
                self._scan()
            try:
                connection.send(data, stall_policy)
                await connection.head(self._timeouts.first_byte)
            except _ClosedBeforeAnswer:
                connection.abort()
                if connection.used:
                    continue
                raise
            except BaseException:
                connection.abort()
                raise
            return UpstreamResponse(connection, self._timeouts)

    async def ask(
        self,
        method: bytes,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        limit: int | None = None,
    ) -> Reply:
        """Send a request and read its answer, or the first `limit` bytes of it. Raises UpstreamError."""
        response = await self.request(method, target, headers, body)
        try:
            return Reply(response.status, await response.read(limit), response.header(b"retry-after"))
        finally:
            response.close()

    def keep(self, connection: Connection) -> None:
        """Take a connection back for the next request."""
        self._busy.discard(connection)
        if self._closed:
            connection.abort()
        else:
            self._idle[connection] = None

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self._open -= 1
        self._busy.discard(connection)
        self._idle.pop(connection, None)

    def close(self) -> None:
        """Close the idle connections; those in use close when their answer ends."""
        self._closed = True
        for connection in list(self._idle):
            connection.abort()

    def _scan(self) -> None:
        """Once an interval, while answers are under way: every connection whose time is up."""
        now = self.loop.time()
        self.now = now + self._interval
        for connection in tuple(self._busy):
            if connection.deadline <= now:
                connection.expire()
        self._scanning = bool(self._busy)
        if self._scanning:
            self.loop.call_later(self._interval, self._scan)

    async def _connect(self) -> Connection:
        if self._open >= self._max_connections:
            raise UpstreamError(f"all {self._max_connections} connections to {self.peer} are in use")
        self._open += 1
        try:
            async with asyncio.timeout(self._timeouts.connect):
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self), self._host, self._port, ssl=self._ssl, server_hostname=self._server_name
                )
        except TimeoutError:
            self._open -= 1
            raise ConnectTimeout(f"no connection to {self.peer} within {self._timeouts.connect:g} s") from None
        except OSError as error:
            self._open -= 1
            raise UpstreamError(f"cannot connect to {self.peer}: {error.strerror or error}") from None
        except BaseException:
            self._open -= 1
            raise
        return connection
