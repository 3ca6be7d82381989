"""One client connection: parses, keeps to the limits, and has the application answer one request after the other."""

from __future__ import annotations

import asyncio
import enum
import logging
import math
from collections import deque
from typing import Any, NoReturn, cast

import httptools

from serving.gateway.errors import BadRequest, GatewayError
from serving.gateway.http.buffers import FIELD_BYTES, REQUEST_BYTES, SMALL_BYTES
from serving.gateway.http.cors import Cors
from serving.gateway.http.flow_control import FlowControl
from serving.gateway.http.heads import refusal
from serving.gateway.http.request import Request, scope_of
from serving.gateway.http.request_errors import body_too_large, head_fault, headers_too_large, malformed, path_fault
from serving.gateway.http.server_state import ServerState
from serving.gateway.http.target import path_of

log = logging.getLogger(__name__)

# Requests that a client may send ahead of their answers. They come in one read; no more is read until they are done.
MAX_PIPELINED = 64
# A client that is still sending when it is refused gets this long to read why, before its connection is reset.
LINGER_S = 2.0
# A head that has not ended is counted from so many bytes on: one cut by the network's packets is smaller.
SMALL_HEAD_BYTES = 4096
# Sizes and extensions of chunks may weigh so many times what they frame.
_MAX_FRAMING = 8
_NO_FIELDS: dict[bytes, bytes] = {}


class _Refused(Exception):
    """Leaves the parser: nothing more of this connection is read."""


class Phase(enum.Enum):
    """What is awaited from the client."""

    IDLE = "a request"
    HEAD = "the rest of a head"
    BODY = "the rest of a body"
    CLOSING = "the end of the connection"


class Connection(FlowControl):
    """Reads requests from one client. Answers go out one at a time, in order, from a task that lives as long as it."""

    __slots__ = (
        "_answering",
        "_current",
        "_discard_input",
        "_fed",
        "_fields",
        "_head_held",
        "_headers",
        "_inexact",
        "_more",
        "_origin",
        "_parser",
        "_phase",
        "_probes_only",
        "_queue",
        "_reading",
        "_receiving",
        "_saw_end",
        "_sound_url",
        "_url",
        "deadline",
    )

    def __init__(self, server: ServerState) -> None:
        super().__init__(server)
        self.deadline = math.inf
        """Loop time at which `expire` is due."""
        self._parser: Any = None
        self._phase = Phase.IDLE
        self._origin: dict[str, Any] = {}
        self._probes_only = False
        self._discard_input = False  # what still comes is thrown away unparsed
        self._reading = True
        self._url = self._sound_url = b""
        self._fields = _NO_FIELDS  # of the head that is being checked
        self._headers: list[tuple[bytes, bytes]] = []
        self._fed = 0  # bytes read since the message began
        self._head_held = 0  # of them, those of a large head that has not ended, as `server.buffers` counts
        self._inexact = self._saw_end = False  # it began in the read in which another ended: its bytes are not known
        self._receiving: Request | None = None
        self._current: Request | None = None
        self._queue: deque[Request] = deque()
        self._answering: asyncio.Task[None] | None = None
        self._more: asyncio.Future[None] | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(self.server.settings.write_buffer_bytes)
        room = self.server.admit(self)
        if room is None:
            self._write_refusal(self.server.full())
            return
        self._probes_only = not room
        self._parser = httptools.HttpRequestParser(self)
        self.deadline = self.server.now + self.server.settings.head_timeout_s
        self._origin = self.server.origin(self._transport)

    def data_received(self, data: bytes) -> None:
        if self._discard_input:
            return
        self._fed += len(data)
        self._saw_end = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # RFC 9110, section 7.8: an upgrade may be ignored. What follows is no HTTP/1.1, so nothing is read.
            self._discard_input = True
            if self._receiving is not None:
                self._receiving.keep_alive = False
        except httptools.HttpParserError as error:
            self._failed_to_parse(error)
        else:
            if self._phase is not Phase.IDLE:
                self._check_sizes()

    def eof_received(self) -> None:
        """A client that has said its last word is taken to be gone: the transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = self._discard_input = True
        self.server.forget(self)
        self._forget_queue()
        self._let_head_go()
        self._wake_writer()
        if self._current is not None:
            self._current.lost()
        if self._more is not None and not self._more.done():
            self._more.set_result(None)
        # Both know this connection: a cycle would keep it until a garbage collection.
        self._parser = self._transport = None

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._phase = Phase.HEAD
        self._inexact = self._saw_end
        self.deadline = self.server.now + self.server.settings.head_timeout_s
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip()))  # the parser leaves blanks at the end

    def on_headers_complete(self) -> None:
        headers = self._headers
        self._headers = []  # what a chunked body brings behind itself is not looked at
        fields = dict(headers)
        version: str = self._parser.get_http_version()
        if self._head_held:
            self._let_head_go()
        self._fields = fields
        size = self._check_head(headers, fields, version)
        self._fields = _NO_FIELDS
        keep_alive = version == "1.1" and self._parser.should_keep_alive()
        scope = scope_of(self._parser.get_method().decode(), self._url, version, headers, self._origin)
        request = self._receiving = Request(self, scope, fields, keep_alive)
        scope["extensions"] = {"signet": request}
        request.weight = REQUEST_BYTES + size + FIELD_BYTES * len(headers)
        counts = request.weight > SMALL_BYTES or bool(self._queue)
        self._fed = 0
        self._phase = Phase.BODY
        self.deadline = self.server.now + self.server.settings.body_timeout_s
        self._enqueue(request)
        if counts:
            self._hold(request)

    def on_body(self, body: bytes) -> None:
        request = self._receiving
        assert request is not None
        request.add_body(body)
        if request.size > self.server.max_body_bytes:
            self._refuse(body_too_large(self.server.max_body_bytes))
        if request.weight > SMALL_BYTES or request.held:
            self._hold(request)
            if request.full:
                self.regulate()

    def on_message_complete(self) -> None:
        self._phase = Phase.IDLE
        self.deadline = math.inf
        self._fed = 0
        self._saw_end = True
        if self._receiving is not None:
            self._receiving.end_body()

    # Limits

    def _check_head(self, headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes], version: str) -> int:
        """The head's size, or, of a small read, the read's.

        Raises: _Refused.
        """
        size = self._fed
        if self._inexact or size > SMALL_HEAD_BYTES:  # there may be bytes of other messages, or the body, in it
            size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers)
        fault = head_fault(self._url, headers, fields, version, size, self.server.settings, self.server.max_body_bytes)
        if fault is None and (self._url[:1] != b"/" or self._probes_only or self._queue):
            fault = self._target_fault()
        if fault is None and self._url != self._sound_url:  # most clients ask for one path again and again
            fault = path_fault(self._url, self.server.names_below)
        if fault is not None:
            self._refuse(fault)
        self._sound_url = self._url
        return size

    def _target_fault(self) -> GatewayError | None:
        if not self._url.startswith((b"/", b"*")):
            self._url = path_of(self._url)
            if not self._url:
                return malformed("the target is no path")
        if self._probes_only and self._url not in self.server.probe_paths:
            return self.server.full()
        if len(self._queue) >= MAX_PIPELINED:
            return malformed(f"more than {MAX_PIPELINED} requests were sent ahead of their answers")
        return None

    def _check_sizes(self) -> None:
        """A head or body that goes on: what its parts are worth is checked as they come."""
        if self._phase is Phase.HEAD:
            settings = self.server.settings
            if self._fed > settings.max_header_bytes or len(self._headers) > settings.max_headers:
                self._refuse_quietly(headers_too_large(settings))
            elif self._fed + FIELD_BYTES * len(self._headers) > SMALL_HEAD_BYTES:
                self._hold_head(self._fed + FIELD_BYTES * len(self._headers))
        elif self._receiving is not None:
            framing = self._fed - self._receiving.size
            if framing > _MAX_FRAMING * self._receiving.size + self.server.settings.max_header_bytes:
                self._refuse_quietly(malformed("chunks weigh less than their sizes"))

    def _hold(self, request: Request) -> None:
        """Count what a request holds; raises _Refused where there is no room for it."""
        if not request.held:
            request.holder = self.server.holder_of(request.headers)
        if not self.server.buffers.hold(request.holder, request.weight - request.held):
            self._refuse(self.server.buffers_full())
        request.held = request.weight

    def _hold_head(self, size: int) -> None:
        """The same for a head that has not ended: nobody knows yet whose it is."""
        if self.server.buffers.hold(None, size - self._head_held):
            self._head_held = size
        else:
            self._refuse_quietly(self.server.buffers_full())

    def _let_head_go(self) -> None:
        if self._head_held:
            self.server.buffers.release(None, self._head_held)
            self._head_held = 0

    def _failed_to_parse(self, error: Exception) -> None:
        if self._discard_input:
            return  # refused in a callback
        last = self._receiving
        if last is not None and last.complete and not last.keep_alive:
            self._discard_input = True  # something sent after 'Connection: close'
            return
        reason = "its method is unknown" if isinstance(error, httptools.HttpParserInvalidMethodError) else str(error)
        self._refuse_quietly(malformed(reason[:80]))

    def _refuse(self, error: GatewayError) -> NoReturn:
        self._refuse_quietly(error)
        raise _Refused

    def _refuse_quietly(self, error: GatewayError) -> None:
        """Read nothing more; answer `error` when the requests before are answered, and close."""
        self._discard_input = True
        self.deadline = math.inf
        self._headers = []
        self._let_head_go()
        self.server.refused(error.code)
        request = self._receiving
        if request is None or request.complete:
            request = Request(self, {}, self._fields, keep_alive=False)
            request.refused = error
            self._enqueue(request)
        else:
            request.refused = error
            request.drop_body()
            request.lost()

    # Time: the server looks at all connections once a second

    def expire(self) -> None:
        """The deadline has passed."""
        settings = self.server.settings
        if self._phase is Phase.CLOSING:
            self.abort()
        elif self._phase is Phase.IDLE:
            self.close()
        elif self._current is not None and self._current is not self._receiving:
            self.deadline = self.server.now + settings.head_timeout_s  # an answer before it is still under way
        else:
            seconds = settings.head_timeout_s if self._phase is Phase.HEAD else settings.body_timeout_s
            what = "head" if self._phase is Phase.HEAD else "body"
            message = f"The request's {what} did not come within {seconds:g} s."
            self._refuse_quietly(BadRequest(message, code="request_timeout", status=408))

    # Flow control

    def regulate(self) -> None:
        """Read from the client only while there is room for what it sends."""
        if self._transport is None:
            return
        receiving = self._receiving
        full = receiving is not None and receiving.full
        want = self._discard_input or not (full or self._queue)
        if want != self._reading:
            self._reading = want
            (self._transport.resume_reading if want else self._transport.pause_reading)()

    # Answering

    @property
    def idle(self) -> bool:
        """No request is under way, not even a part of one."""
        return self._current is None and not self._queue and self._phase is Phase.IDLE

    def _enqueue(self, request: Request) -> None:
        self._queue.append(request)
        if self._answering is None or self._more is not None:
            self.server.begin(self)
        else:
            self.regulate()

    def begin(self) -> None:
        """Answer what waits: it is this connection's turn."""
        if self._answering is None:
            self._answering = self.server.loop.create_task(self._answer_all())
        elif self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def _answer_all(self) -> None:
        try:
            while await self._next():
                request = self._current = self._queue.popleft()
                if not self._reading:
                    self.regulate()
                await self._answer(request)
                request.forget()
                self._current = None
                if not request.keep_alive:
                    self._end(discard=not request.complete)
                    return
                if not self._reading:
                    self.regulate()
        finally:
            if self._current is not None:
                self._current.forget()
            self._forget_queue()
            self._current = self._receiving = self._answering = None
            if self._phase is not Phase.CLOSING:
                self.abort()  # the application was cancelled

    def _forget_queue(self) -> None:
        for request in self._queue:
            request.forget()
        self._queue.clear()

    async def _next(self) -> bool:
        """Whether there is another request; waits for it."""
        if not self._queue and not self.closed:
            if self._phase is Phase.IDLE:
                self.deadline = self.server.now + self.server.settings.keep_alive_s
                if self.server.draining:
                    self.close()
            self._more = self.server.loop.create_future()
            await self._more
            self._more = None
        return bool(self._queue)

    async def _answer(self, request: Request) -> None:
        cors = self.server.cors
        if request.refused is None:
            try:
                if cors is None or not await self._answer_preflight(cors, request):
                    await self.server.app(request.scope, request.receive, request.send)
            except Exception:
                log.exception("the application failed")
        if request.refused is not None and not request.started:
            self._write_error(request, request.refused)
            request.keep_alive = False
        elif not request.finished:
            if request.started or self.closed:
                self.abort()  # an answer cut short must not look complete
            else:
                self._write_error(request, GatewayError("The gateway failed on this request."))
            request.keep_alive = False

    async def _answer_preflight(self, cors: Cors, request: Request) -> bool:
        """Whether the request is a browser's question whether it may send another; it is answered then."""
        try:
            allowed = cors.preflight(request.scope["method"], request.headers)
        except GatewayError as error:
            request.refused = error
            self.server.refused(error.code)
            return True
        if allowed is None:
            return False
        await request.send({"type": "http.response.start", "status": 204, "headers": allowed})
        await request.send({"type": "http.response.body"})
        return True

    def _write_error(self, request: Request, error: GatewayError) -> None:
        cors = self.server.cors
        lines = cors.lines(request.headers) if cors is not None else b""
        self.write(refusal(error, self.server.date_line, lines))

    def _write_refusal(self, error: GatewayError) -> None:
        self.write(refusal(error, self.server.date_line))
        self._end(discard=True)

    def _end(self, *, discard: bool) -> None:
        """Close when all is sent. With `discard` the client may still be sending, and a reset would lose our answer."""
        if self.closed:
            return
        assert self._transport is not None
        self._discard_input = True
        self._phase = Phase.CLOSING
        if discard and self._transport.can_write_eof():
            self.deadline = self.server.now + LINGER_S
            self._transport.write_eof()
            self.regulate()
        else:
            self.deadline = self.server.now + self.server.settings.slow_reader_timeout_s
            self._transport.close()

    def close(self) -> None:
        """Close when all is sent."""
        self._end(discard=False)

    def abort(self) -> None:
        self._discard_input = True
        super().abort()

    def cancel(self) -> None:
        """Have the application end its answer now."""
        if self._current is not None and self._answering is not None:
            self._answering.cancel()
