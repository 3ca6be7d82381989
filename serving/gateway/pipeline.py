"""One request, top to bottom.

authenticate → admit → sanitize → choose mark → choose engine → relay → settle → finish the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from monitoring.telemetry import GatewayMetrics, Tracing
from serving.gateway.answer import clean_answer
from serving.gateway.body import engine_body, parse_body
from serving.gateway.context import RequestContext
from serving.gateway.errors import (
    ClientGone,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    GatewayError,
    LedgerDown,
    from_engine,
)
from serving.gateway.pool import Engine, EnginePool
from serving.gateway.relay import StreamBroken, StreamRelay
from serving.gateway.routing import check_model, choose_engine
from serving.gateway.settings import GatewaySettings
from serving.gateway.settle import Settlement
from serving.gateway.sse import EventTooLong
from serving.gateway.steps import admit, authenticate, choose_mark, drop_mark, sanitize
from serving.gateway.upstream import UpstreamError, UpstreamResponse, UpstreamTimeout
from serving.gateway.wire import (
    EVENT_STREAM,
    JSON,
    Headers,
    Message,
    Receive,
    Send,
    encode_headers,
    error_event,
    read_body,
    send_error,
    send_whole,
)
from serving.guard import Guard
from serving.identity import Identity, Limiter
from serving.ledger import Ledger, LedgerUnavailable
from serving.provenance import Keyring

log = logging.getLogger(__name__)

MAX_ERROR_BODY_BYTES = 64 * 1024
_ENGINE_DIED = "The engine stopped in the middle of this answer. What was sent is all there is; ask again."


@dataclass(slots=True)
class Pipeline:
    """The parts that every request meets, made once."""

    settings: GatewaySettings
    identity: Identity
    limiter: Limiter
    guard: Guard
    keyring: Keyring | None
    pool: EnginePool
    ledger: Ledger
    metrics: GatewayMetrics
    tracing: Tracing

    async def start(self) -> None:
        """Open what needs a running event loop."""
        self.identity.start()
        self.ledger.start()
        await self.pool.start()

    async def stop(self) -> None:
        """Close everything; no request is open any more."""
        await self.pool.stop()
        await asyncio.to_thread(self.ledger.stop)
        await asyncio.to_thread(self.identity.close)
        await asyncio.to_thread(self.tracing.stop)

    async def handle(self, context: RequestContext, receive: Receive, send: Send) -> None:
        """Answer one request. Every failure ends in OpenAI-shaped JSON; nothing is raised."""
        settlement = Settlement(context, self.ledger, self.metrics, self.tracing)
        exchange = Exchange(self, context, settlement, send)
        watch = ClientWatch(receive)
        try:
            context.raw_body = await read_body(receive, self.settings.max_body_bytes)
            self._prepare(context)
            async with watch:
                await exchange.run()
        except GatewayError as error:
            await exchange.fail(error)
        except ClientGone:
            await settlement.abandon()
        except asyncio.CancelledError:
            if watch.client_left:
                await settlement.abandon()
            else:
                await exchange.fail(EngineUnavailable("The gateway is stopping. Ask again.", code="stopping"))
        except Exception:
            log.exception("unexpected failure", extra={"request_id": context.request_id})
            await exchange.fail(GatewayError("The gateway failed on this request. Its log has the request id."))
        finally:
            exchange.close()
            settlement.close()

    def _prepare(self, context: RequestContext) -> None:
        authenticate(context, self.identity)
        parse_body(context, self.settings.max_choices)
        check_model(self.pool, context.model)
        admit(context, self.limiter)
        sanitize(context, self.guard)
        choose_mark(context, self.keyring)
        context.trace = self.tracing.start_request(context)


class Exchange:
    """One request meeting one engine: sends the question, relays the answer."""

    def __init__(self, pipeline: Pipeline, context: RequestContext, settlement: Settlement, send: Send) -> None:
        self._pipeline = pipeline
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
                engine = choose_engine(self._pipeline.pool, self._context.model, tried)
            except EngineUnavailable:
                if tried:
                    log.warning("no engine left", extra={"request_id": self._context.request_id})
                raise
            if self._context.mark_scheme != "off" and not engine.has_plugin:
                drop_mark(self._context, "engine")
            self._occupy(engine)
            try:
                self._response = await engine.client.request(
                    b"POST", self._context.target, [*engine.headers, *self._request_headers()], self._engine_body()
                )
            except UpstreamTimeout as error:
                raise EngineTimeout(f"No answer in time: {error}.") from None
            except UpstreamError as error:
                engine.mark_down(str(error))
                tried.append(engine)
                continue
            return self._response

    def _occupy(self, engine: Engine) -> None:
        if self._release is not None:
            self._release()
        engine.in_flight += 1
        self._context.engine = engine
        self._settlement.routed()

        def release() -> None:
            engine.in_flight -= 1

        self._release = release

    def _engine_body(self) -> bytes:
        context = self._context
        if context.mark_scheme != "off":
            mark = {"signet_mark": context.mark_scheme, "signet_key": context.mark_key_id}
            context.body["vllm_xargs"] = {**(context.body.get("vllm_xargs") or {}), **mark}
        return engine_body(context)

    def _request_headers(self) -> list[tuple[bytes, bytes]]:
        headers = [JSON, (b"x-request-id", self._context.request_id.encode())]
        return headers + self._pipeline.tracing.outgoing_headers(self._context)

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
        except UpstreamError:
            raise EngineFailed("The engine stopped before its answer was complete. Ask again.") from None
        answer = clean_answer(self._context, self._pipeline.guard, body)
        self._settlement.note_output(answer.reports)
        self._settlement.note_text()
        await self._commit()
        await send_whole(self._send, 200, answer.body, [JSON, *self._headers()])

    async def _relay_stream(self, response: UpstreamResponse) -> None:
        relay = self._relay = StreamRelay(self._context, self._pipeline.guard)
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


class ClientWatch:
    """Cancels the request when its client closes the connection, so that the engine stops generating."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._request: asyncio.Task[object] | None = None
        self.client_left = False

    async def __aenter__(self) -> None:
        self._request = asyncio.current_task()
        self._task = asyncio.ensure_future(self._receive())
        self._task.add_done_callback(self._left)

    async def __aexit__(self, *_: object) -> None:
        self._request = None
        self._task.cancel()

    def _left(self, task: asyncio.Future[Message]) -> None:
        if self._request is not None and not task.cancelled():
            self.client_left = True
            self._request.cancel()
