"""One request as its application sees it: ASGI's `receive` and `send`, and when the client has gone.

Where more than one way is allowed the cheaper is taken: the head of an answer waits for its first bytes of body and
leaves with them (ASGI asks for that too), and the body of a question is one message when it has come in one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from serving.http.asgi import Headers, Message, Scope
from serving.http.errors import HttpError
from serving.http.flow import FlowControl
from serving.http.heads import CHUNKED, CLOSE, CONTINUE, LAST_CHUNK, head_lines, status_line

# Above this many bytes that the application has not taken, the client's socket is no longer read.
BODY_HIGH_WATER_BYTES = 256 * 1024
_BODILESS = frozenset({204, 304})


class Link(Protocol):
    """All requests of the connection that a request came on."""

    def regulate(self) -> None:
        """Read from the client only while there is room for what it sends."""

    def cancel(self) -> None:
        """Have the application end its answer now."""


class Request:
    """A request and the answer to it. Also the extension of its scope: see `asgi.Client`."""

    __slots__ = (
        "_expects_continue",
        "_flow",
        "_framed",
        "_handed_over",
        "_headers",
        "_is_head",
        "_link",
        "_on_gone",
        "_parts",
        "_receiver",
        "_status",
        "buffered",
        "complete",
        "finished",
        "gone",
        "headers",
        "held",
        "holder",
        "keep_alive",
        "refused",
        "scope",
        "size",
        "started",
        "wanted",
        "weight",
    )

    def __init__(
        self, flow: FlowControl, link: Link, scope: Scope, headers: dict[bytes, bytes], keep_alive: bool
    ) -> None:
        self._flow = flow
        self._link = link
        self.scope = scope
        self.headers = headers
        """Header fields by lower-case name; of one sent twice, the last."""
        self.keep_alive = keep_alive
        self.refused: HttpError | None = None
        """Set when the request breaks a rule before its end; the server then answers instead of the application."""
        self.complete = False
        """The whole body has come."""
        self.size = self.buffered = 0
        """Bytes of body that have come, and those of them that the application has not taken."""
        self.weight = self.held = 0
        """About what it takes of memory, and how much of that `server.buffers` has counted."""
        self.holder: str | None = None
        self.wanted = False
        """The application has asked for the body."""
        self.started = self.finished = self.gone = False
        self._parts: list[bytes] = []
        self._handed_over = False
        self._receiver: asyncio.Future[None] | None = None
        self._on_gone: Callable[[], object] | None = None
        self._status = 0
        self._headers: Headers = ()
        self._framed: bool | None = None  # None: the answer has no body on the wire
        self._is_head = scope.get("method") == "HEAD"
        expected = headers.get(b"expect")
        self._expects_continue = expected is not None and expected.lower() == b"100-continue"

    # What the connection calls.

    def add_body(self, data: bytes) -> None:
        self._parts.append(data)
        self.size += len(data)
        self.weight += len(data)
        self.buffered += len(data)
        if self._receiver is not None:
            self._wake()

    @property
    def full(self) -> bool:
        """No more is to be read now: much waits for the application, or it has not said that it wants any.

        It need not say so of a request whose holder is known.
        """
        return self.buffered > BODY_HIGH_WATER_BYTES or (self.held > 0 and self.holder is None and not self.wanted)

    def end_body(self) -> None:
        self.complete = True
        if self._receiver is not None:
            self._wake()

    def lost(self) -> None:
        """Nobody is left to answer."""
        self.gone = True
        self._wake()
        if self._on_gone is not None and not self.finished:
            self._on_gone()

    def forget(self) -> None:
        """The application has returned: break the reference cycles, so that memory is free without a collection."""
        self._on_gone = self._receiver = None
        self.scope = {}
        self.drop_body()
        if self.held:
            self._flow.server.buffers.release(self.holder, self.held)
            self.held = 0

    def drop_body(self) -> None:
        """What the application has not taken, it will not take."""
        self._parts.clear()
        self.buffered = 0

    # What the application calls.

    def on_disconnect(self, callback: Callable[[], object]) -> None:
        """Have `callback` called once, should the client go before the answer is complete."""
        self._on_gone = callback
        if self.gone and not self.finished:
            callback()

    def hold(self, holder: str, size: int) -> bool:
        """Count `size` bytes more until the request is answered; False where there is no room for them."""
        self._belong_to(holder)
        fits = self._flow.server.buffers.hold(holder, size)
        if fits:
            self.held += size
        return fits

    async def wait_for_room(self, holder: str, size: int) -> None:
        """The same as soon as there is room."""
        self._belong_to(holder)
        await self._flow.server.buffers.wait(holder, size)
        self.held += size

    def _belong_to(self, holder: str) -> None:
        if self.holder != holder:
            if self.held:
                self._flow.server.buffers.hand_over(holder, self.held)
            self.holder = holder

    def cancel(self) -> None:
        """Cancel the task that answers this request."""
        self._link.cancel()

    async def receive(self) -> Message:
        """ASGI's: the next piece of the body, or that the client has gone."""
        if not self.wanted:
            self.wanted = True
            if self.held and self.holder is None:
                self._let_in()
        while True:
            if self._parts or (self.complete and not self._handed_over and not self.gone):
                return self._take()
            if self.gone or self.finished:
                return {"type": "http.disconnect"}
            if self._expects_continue and not self.complete and not self.started:
                self._expects_continue = False
                self._flow.write(CONTINUE)
            self._receiver = self._flow.server.loop.create_future()
            await self._receiver
            self._receiver = None

    async def send(self, message: Message) -> None:
        """ASGI's: head and pieces of the answer. Waits while the client does not read."""
        if self.gone:
            return
        flow = self._flow
        if message["type"] == "http.response.start":
            if self._status:
                raise RuntimeError("an answer has one head")
            self._status, self._headers = message["status"], message.get("headers", ())
            return
        if self.finished:
            raise RuntimeError("the answer is complete already")
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if not self.started:
            data = self._begin(body, more)
        elif more:
            data = self._piece(body)
        elif self._framed is False:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else LAST_CHUNK
        else:
            data = body if self._framed else b""
        if not more:
            self.finished = True
        if data:
            flow.write(data)
        if flow.write_paused:
            await flow.drained()

    @property
    def may_write(self) -> bool:
        """Whether `write` has nothing to wait for: the answer has begun, and the client reads it."""
        return self.started and not (self.finished or self.gone or self._flow.write_paused)

    def write(self, body: bytes) -> None:
        """Send a piece of the answer, as `send` does, that is not its last."""
        if data := self._piece(body):
            self._flow.write(data)

    def _piece(self, body: bytes) -> bytes:
        """A part of the body that is not its last, as it goes over the wire."""
        if self._framed is False:
            return b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return body if self._framed else b""

    def _begin(self, body: bytes, more: bool) -> bytes:
        """The head, with the first bytes of the body."""
        status = self._status
        if not status:
            raise RuntimeError("an answer begins with its head")
        fields = head_lines(self._headers)
        self.started, self._headers = True, ()
        cors = self._flow.server.cors
        if cors is not None:
            fields += cors.lines(self.headers)
        lengthy = b"content-length: " in fields
        if self._flow.server.draining or not self.complete:
            self.keep_alive = False
        framing = b""
        if self._is_head or status in _BODILESS:
            body = b""
        elif lengthy:
            self._framed = True
        elif self.scope["http_version"] == "1.0":
            self._framed, self.keep_alive = True, False  # the end of the connection is the end of the body
        elif more:
            self._framed, framing = False, CHUNKED
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        else:
            self._framed, framing = True, b"content-length: %d\r\n" % len(body)
        close = b"" if self.keep_alive else CLOSE
        date = self._flow.server.date_line
        return b"".join((status_line(status), date, fields, framing, close, b"\r\n", body))

    def _take(self) -> Message:
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self.buffered = 0
        self._handed_over = self.complete
        # Of a complete body too: the next request, or that the client goes, must still be heard.
        self._link.regulate()
        return {"type": "http.request", "body": body, "more_body": not self.complete}

    def _let_in(self) -> None:
        """The application reads on for somebody who was not known when the head came, such as a token's holder."""
        server = self._flow.server
        holder = server.holder_of(self.headers)
        if holder is not None:
            server.buffers.hand_over(holder, self.held)
            self.holder = holder
        self._link.regulate()

    def _wake(self) -> None:
        receiver = self._receiver
        if receiver is not None and not receiver.done():
            receiver.set_result(None)


def scope_of(method: str, url: bytes, version: str, headers: list[tuple[bytes, bytes]], origin: Any) -> Scope:
    """The ASGI scope of a request; `origin` is what all requests of a connection share."""
    raw_path, _, query = url.partition(b"?")
    path = raw_path.decode("latin-1")
    if "%" in path:
        path = _unquoted(raw_path)
    return {
        "type": "http",
        "http_version": version,
        "method": method,
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "headers": headers,
        **origin,
    }


def _unquoted(path: bytes) -> str:
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(path).decode("utf-8", "replace")
