"""Bytes of a connection become requests that keep to the limits, or one refusal."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import httptools

from serving.http.answering import RequestQueue
from serving.http.asgi import EXTENSION
from serving.http.buffers import FIELD_BYTES, REQUEST_BYTES, SMALL_BYTES
from serving.http.errors import (
    HttpError,
    body_too_large,
    buffers_full,
    connections_full,
    head_fault,
    headers_too_large,
    malformed,
    path_fault,
)
from serving.http.flow import FlowControl, Phase
from serving.http.request import Request, scope_of
from serving.http.target import path_of

# Requests that a client may send ahead of their answers. They come in one read; no more is read until they are done.
MAX_PIPELINED = 64
# A head that has not ended is counted from so many bytes on: one cut by the network's packets is smaller.
SMALL_HEAD_BYTES = 4096
# Sizes and extensions of chunks may weigh so many times what they frame.
_MAX_FRAMING = 8
_NO_FIELDS: dict[bytes, bytes] = {}


class _Refused(Exception):
    """Leaves the parser: nothing more of this connection is read."""


class RequestReader:
    """Parses what comes on one connection.

    Args:
        flow: the connection's.
        requests: what takes each request once its head is complete.
        origin: what the scopes of all of them share.
        probes_only: only `probe_paths` are let through.
    """

    __slots__ = (
        "_fed",
        "_fields",
        "_flow",
        "_head_held",
        "_headers",
        "_inexact",
        "_origin",
        "_parser",
        "_probes_only",
        "_requests",
        "_saw_end",
        "_server",
        "_sound_url",
        "_url",
    )

    def __init__(self, flow: FlowControl, requests: RequestQueue, origin: dict[str, Any], probes_only: bool) -> None:
        self._flow = flow
        self._server = flow.server
        self._requests = requests
        self._origin = origin
        self._probes_only = probes_only
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url = self._sound_url = b""
        self._fields = _NO_FIELDS  # of the head that is being checked
        self._headers: list[tuple[bytes, bytes]] = []
        self._fed = 0  # bytes read since the message began
        self._head_held = 0  # of them, those of a large head that has not ended, as `server.buffers` counts
        self._inexact = self._saw_end = False  # it began in the read in which another ended: its bytes are not known

    def feed(self, data: bytes) -> None:
        self._fed += len(data)
        self._saw_end = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # RFC 9110, section 7.8: an upgrade may be ignored. What follows is no HTTP/1.1, so nothing is read.
            self._flow.discards_input = True
            if self._requests.receiving is not None:
                self._requests.receiving.keep_alive = False
        except httptools.HttpParserError as error:
            self._failed_to_parse(error)
        else:
            if self._flow.phase is not Phase.IDLE:
                self._check_sizes()

    def refuse(self, error: HttpError) -> None:
        """Read nothing more; answer `error` when the requests before are answered, and close."""
        self._flow.discards_input = True
        self._flow.deadline = math.inf
        self._headers = []
        self._let_head_go()
        self._server.refused(error.code)
        request = self._requests.receiving
        if request is None or request.complete:
            request = Request(self._flow, self._requests, {}, self._fields, keep_alive=False)
            request.refused = error
            self._requests.add(request)
        else:
            request.refused = error
            request.drop_body()
            request.lost()

    def lost(self) -> None:
        """The connection is closed."""
        self._let_head_go()
        # The parser knows this object: a cycle would keep both until a garbage collection.
        self._parser = None

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._flow.phase = Phase.HEAD
        self._inexact = self._saw_end
        self._flow.deadline = self._server.now + self._server.settings.head_timeout_s
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
        requests = self._requests
        request = requests.receiving = Request(self._flow, requests, scope, fields, keep_alive)
        scope["extensions"] = {EXTENSION: request}
        request.weight = REQUEST_BYTES + size + FIELD_BYTES * len(headers)
        counts = request.weight > SMALL_BYTES or len(requests) > 0
        self._fed = 0
        self._flow.phase = Phase.BODY
        self._flow.deadline = self._server.now + self._server.settings.body_timeout_s
        requests.add(request)
        if counts:
            self._hold(request)

    def on_body(self, body: bytes) -> None:
        request = self._requests.receiving
        assert request is not None
        request.add_body(body)
        if request.size > self._server.max_body_bytes:
            self._stop(body_too_large(self._server.max_body_bytes))
        if request.weight > SMALL_BYTES or request.held:
            self._hold(request)
            if request.full:
                self._requests.regulate()

    def on_message_complete(self) -> None:
        self._flow.phase = Phase.IDLE
        self._flow.deadline = math.inf
        self._fed = 0
        self._saw_end = True
        if self._requests.receiving is not None:
            self._requests.receiving.end_body()

    # Limits

    def _check_head(self, headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes], version: str) -> int:
        """The head's size, or, of a small read, the read's.

        Raises: _Refused.
        """
        size = self._fed
        if self._inexact or size > SMALL_HEAD_BYTES:  # there may be bytes of other messages, or the body, in it
            size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers)
        server = self._server
        fault = head_fault(
            self._url, headers, fields, version, size, server.settings, server.max_body_bytes, server.singletons
        )
        if fault is None and (self._url[:1] != b"/" or self._probes_only or len(self._requests)):
            fault = self._target_fault()
        if fault is None and self._url != self._sound_url:  # most clients ask for one path again and again
            fault = path_fault(self._url, server.names_below)
        if fault is not None:
            self._stop(fault)
        self._sound_url = self._url
        return size

    def _target_fault(self) -> HttpError | None:
        if not self._url.startswith((b"/", b"*")):
            self._url = path_of(self._url)
            if not self._url:
                return malformed("the target is no path")
        if self._probes_only and self._url not in self._server.probe_paths:
            return connections_full()
        if len(self._requests) >= MAX_PIPELINED:
            return malformed(f"more than {MAX_PIPELINED} requests were sent ahead of their answers")
        return None

    def _check_sizes(self) -> None:
        """A head or body that goes on: what its parts are worth is checked as they come."""
        request = self._requests.receiving
        if self._flow.phase is Phase.HEAD:
            settings = self._server.settings
            if self._fed > settings.max_header_bytes or len(self._headers) > settings.max_headers:
                self.refuse(headers_too_large(settings))
            elif self._fed + FIELD_BYTES * len(self._headers) > SMALL_HEAD_BYTES:
                self._hold_head(self._fed + FIELD_BYTES * len(self._headers))
        elif request is not None:
            framing = self._fed - request.size
            if framing > _MAX_FRAMING * request.size + self._server.settings.max_header_bytes:
                self.refuse(malformed("chunks weigh less than their sizes"))

    def _hold(self, request: Request) -> None:
        """Count what a request holds; raises _Refused where there is no room for it."""
        if not request.held:
            request.holder = self._server.holder_of(request.headers)
        if not self._server.buffers.hold(request.holder, request.weight - request.held):
            self._stop(buffers_full())
        request.held = request.weight

    def _hold_head(self, size: int) -> None:
        """The same for a head that has not ended: nobody knows yet whose it is."""
        if self._server.buffers.hold(None, size - self._head_held):
            self._head_held = size
        else:
            self.refuse(buffers_full())

    def _let_head_go(self) -> None:
        if self._head_held:
            self._server.buffers.release(None, self._head_held)
            self._head_held = 0

    def _failed_to_parse(self, error: Exception) -> None:
        if self._flow.discards_input:
            return  # refused in a callback
        last = self._requests.receiving
        if last is not None and last.complete and not last.keep_alive:
            self._flow.discards_input = True  # something sent after 'Connection: close'
            return
        reason = "its method is unknown" if isinstance(error, httptools.HttpParserInvalidMethodError) else str(error)
        self.refuse(malformed(reason[:80]))

    def _stop(self, error: HttpError) -> NoReturn:
        self.refuse(error)
        raise _Refused
