"""The requests of one connection are answered in order, one at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from serving.http.cors import Cors
from serving.http.errors import HttpError
from serving.http.flow import FlowControl, Phase
from serving.http.request import Request

log = logging.getLogger(__name__)


class RequestQueue:
    """Has the application answer what comes on a connection, from a task that lives as long as that."""

    __slots__ = ("_answering", "_current", "_flow", "_more", "_queue", "_server", "receiving")

    def __init__(self, flow: FlowControl) -> None:
        self.receiving: Request | None = None
        """The request whose body is being read, or was last."""
        self._flow = flow
        self._server = flow.server
        self._current: Request | None = None
        self._queue: deque[Request] = deque()
        self._answering: asyncio.Task[None] | None = None
        self._more: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """Requests that wait for the answers before theirs."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        return self._current is None and not self._queue

    @property
    def is_behind(self) -> bool:
        """An answer is under way to a request before the one that is being read."""
        return self._current is not None and self._current is not self.receiving

    def add(self, request: Request) -> None:
        self._queue.append(request)
        if self._answering is None or self._more is not None:
            self._server.begin(self)
        else:
            self.regulate()

    def begin(self) -> None:
        """Answer what waits: it is this connection's turn."""
        if self._answering is None:
            self._answering = self._server.loop.create_task(self._answer_all())
        elif self._more is not None and not self._more.done():
            self._more.set_result(None)

    def regulate(self) -> None:
        """Read from the client only while there is room for what it sends."""
        receiving = self.receiving
        full = receiving is not None and receiving.full
        self._flow.read(not (full or self._queue))

    def cancel(self) -> None:
        """Have the application end its answer now."""
        if self._current is not None and self._answering is not None:
            self._answering.cancel()

    def lost(self) -> None:
        """Nobody is left to answer."""
        self._forget_queue()
        if self._current is not None:
            self._current.lost()
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def _answer_all(self) -> None:
        flow = self._flow
        try:
            while await self._next():
                request = self._current = self._queue.popleft()
                if not flow.reading:
                    self.regulate()
                await self._answer(request)
                request.forget()
                self._current = None
                if not request.keep_alive:
                    flow.end(discard=not request.complete)
                    return
                if not flow.reading:
                    self.regulate()
        finally:
            if self._current is not None:
                self._current.forget()
            self._forget_queue()
            self._current = self.receiving = self._answering = None
            if flow.phase is not Phase.CLOSING:
                flow.abort()  # the application was cancelled

    def _forget_queue(self) -> None:
        for request in self._queue:
            request.forget()
        self._queue.clear()

    async def _next(self) -> bool:
        """Whether there is another request; waits for it."""
        flow = self._flow
        if not self._queue and not flow.closed:
            if flow.phase is Phase.IDLE:
                flow.deadline = self._server.now + self._server.settings.keep_alive_s
                if self._server.draining:
                    flow.end(discard=False)
            self._more = self._server.loop.create_future()
            await self._more
            self._more = None
        return bool(self._queue)

    async def _answer(self, request: Request) -> None:
        cors = self._server.cors
        if request.refused is None:
            try:
                if cors is None or not await self._answer_preflight(cors, request):
                    await self._server.app(request.scope, request.receive, request.send)
            except Exception:
                log.exception("the application failed")
        if request.refused is not None and not request.started:
            self._write_error(request, request.refused)
            request.keep_alive = False
        elif not request.finished:
            if request.started or self._flow.closed:
                self._flow.abort()  # an answer cut short must not look complete
            else:
                self._write_error(request, HttpError(500, "internal_error", "The server failed on this request."))
            request.keep_alive = False

    async def _answer_preflight(self, cors: Cors, request: Request) -> bool:
        """Whether the request is a browser's question whether it may send another; it is answered then."""
        try:
            allowed = cors.preflight(request.scope["method"], request.headers)
        except HttpError as error:
            request.refused = error
            self._server.refused(error.code)
            return True
        if allowed is None:
            return False
        await request.send({"type": "http.response.start", "status": 204, "headers": allowed})
        await request.send({"type": "http.response.body"})
        return True

    def _write_error(self, request: Request, error: HttpError) -> None:
        cors = self._server.cors
        self._flow.write(self._server.refusal(error, cors.lines(request.headers) if cors is not None else b""))
