"""One request meeting an engine: the question sent, the answer relayed, everything given back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from monitoring.telemetry import Tracing
from serving.gateway.body import engine_body
from serving.gateway.context import RequestContext
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.pool import EnginePool
from serving.gateway.engines.upstream import UpstreamError, UpstreamResponse, UpstreamTimeout
from serving.gateway.errors import (
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    GatewayError,
    LedgerDown,
    from_engine,
)
from serving.gateway.routing.choose import choose_engine
from serving.gateway.settle import Settlement
from serving.gateway.steps import drop_mark
from serving.gateway.streams.answer import clean_answer
from serving.gateway.streams.relay import StreamBroken, StreamRelay
from serving.gateway.streams.sse import EventTooLong
from serving.gateway.wire import EVENT_STREAM, JSON, Headers, Send, encode_headers, error_event, send_error, send_whole
from serving.guard import Guard
from serving.ledger import LedgerUnavailable

log = logging.getLogger(__name__)

MAX_ERROR_BODY_BYTES = 64 * 1024
_ENGINE_DIED = "The engine stopped in the middle of this answer. What was sent is all there is; ask again."


class Exchange:
    """One request meeting one engine: sends the question, relays the answer."""

    def __init__(
        self,
        context: RequestContext,
        settlement: Settlement,
        send: Send,
        *,
        pool: EnginePool,
        guard: Guard,
        tracing: Tracing,
    ) -> None:
        self._pool = pool
        self._guard = guard
        self._tracing = tracing
        self._context = context
        self._settlement = settlement
        self._send = send
        self._response: UpstreamResponse | None = None
        self._release: Callable[[], None] | None = None
        self._relay: StreamRelay | None = None
        self._started = False

    async def run(self) -> None:
        response = await self._ask()
        if response.status != 200:
            raise from_engine(response.status, await response.read(MAX_ERROR_BODY_BYTES))
        if response.header(b"content-type").startswith(b"text/event-stream"):
            await self._relay_stream(response)
        else:
            await self._relay_whole(response)

    async def fail(self, error: GatewayError) -> None:
        """End the answer with an error: JSON while nothing was sent, an error event afterwards."""
        await self._settlement.fail(error)
        if not self._started:
            await send_error(self._send, error, self._headers())
            return
        rest = self._relay.flush() if self._relay is not None else b""
        await self._send({"type": "http.response.body", "body": rest + error_event(error)})

    def close(self) -> None:
        """Give everything back: the connection (closing it stops an unfinished generation) and the engine's slot."""
        if self._response is not None:
            self._response.close(said_all=self._relay is not None and self._relay.done)
        if self._release is not None:
            self._release()
        self._response = self._release = None

    async def _ask(self) -> UpstreamResponse:
        """Send the question to the best engine; to the next one while no byte of an answer has come."""
        tried: list[Engine] = []
        while True:
            try:
                engine = choose_engine(self._pool, self._context, tried)
            except EngineUnavailable:
                if tried:
                    log.warning("no engine left", extra={"request_id": self._context.request_id})
                raise
            if self._context.mark_scheme != "off" and not engine.has_plugin:
                drop_mark(self._context, "engine")
            self._occupy(engine)
            asked = time.perf_counter()
            try:
                self._response = await engine.client.request(
                    b"POST", self._context.target, [*engine.headers, *self._request_headers()], self._engine_body()
                )
            except UpstreamTimeout as error:
                engine.failed(str(error))
                raise EngineTimeout(f"No answer in time: {error}.") from None
            except UpstreamError as error:
                engine.failed(str(error))
                tried.append(engine)
                continue
            if self._response.status >= 500:
                engine.failed(f"it answered with status {self._response.status}")
            else:
                engine.succeeded(time.perf_counter() - asked)
            return self._response

    def _occupy(self, engine: Engine) -> None:
        if self._release is not None:
            self._release()
        self._release = engine.occupy()
        self._context.engine = engine
        self._settlement.routed()

    def _engine_body(self) -> bytes:
        context = self._context
        if context.mark_scheme != "off":
            mark = {"signet_mark": context.mark_scheme, "signet_key": context.mark_key_id}
            context.body["vllm_xargs"] = {**(context.body.get("vllm_xargs") or {}), **mark}
        return engine_body(context)

    def _request_headers(self) -> list[tuple[bytes, bytes]]:
        headers = [JSON, (b"x-request-id", self._context.request_id.encode())]
        return headers + self._tracing.outgoing_headers(self._context)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        context = self._context
        headers = [(b"x-request-id", context.request_id.encode())]
        if context.lease is not None:
            headers += encode_headers(context.lease.headers)
        if context.engine is not None:
            headers.append((b"x-signet-mark", context.mark_header()))
        return headers

    async def _relay_whole(self, response: UpstreamResponse) -> None:
        try:
            body = await response.read()
        except UpstreamError as error:
            assert self._context.engine is not None
            self._context.engine.failed(str(error))
            raise EngineFailed("The engine stopped before its answer was complete. Ask again.") from None
        answer = clean_answer(self._context, self._guard, body)
        self._settlement.note_output(answer.reports)
        self._settlement.note_text()
        await self._commit()
        await send_whole(self._send, 200, answer.body, [JSON, *self._headers()])

    async def _relay_stream(self, response: UpstreamResponse) -> None:
        relay = self._relay = StreamRelay(self._context, self._guard)
        await self._start([*EVENT_STREAM, *self._headers()])
        try:
            async for data in response.chunks():
                released = relay.feed(data)
                self._settlement.note_text(relay.num_text_events)
                if released:
                    await self._send({"type": "http.response.body", "body": released, "more_body": True})
                if relay.done:
                    break
            relay.finish()
        except (UpstreamError, StreamBroken, EventTooLong) as error:
            log.warning("stream broke off", extra={"request_id": self._context.request_id, "reason": str(error)})
            assert self._context.engine is not None
            self._context.engine.failed(str(error))
            raise EngineFailed(_ENGINE_DIED, code="stream_interrupted") from None
        self._settlement.note_output(relay.reports())
        await self._commit()
        await self._send({"type": "http.response.body", "body": relay.close()})

    async def _start(self, headers: Headers) -> None:
        self._started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": list(headers)})

    async def _commit(self) -> None:
        try:
            await self._settlement.commit()
        except LedgerUnavailable:
            raise LedgerDown("The answer could not be recorded, so it is not released. Try again later.") from None
