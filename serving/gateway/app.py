"""The ASGI application: the hot paths by one dictionary look-up, everything else through FastAPI behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry

from monitoring.telemetry import GatewayMetrics
from monitoring.telemetry.exposition import Format, format_for
from serving.gateway.asgi import send_error
from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT, ENDPOINTS
from serving.gateway.errors import GatewayError, MethodNotAllowed, ModelNotFound, refusal_body
from serving.gateway.pipeline import Pipeline
from serving.gateway.prompts import PREFIX, PromptError
from serving.gateway.reload import Part
from serving.gateway.steps.authenticate import authenticate, presented_key
from serving.gateway.streams.chunks import encode
from serving.http.asgi import EXTENSION, JSON, AsgiApp, Client, Headers, Receive, Scope, Send, extended, send_whole
from serving.http.state import ServedApp
from serving.settings import Settings

PROBE_PATHS = ("/healthz", "/readyz", "/readyz/engines", "/metrics")
MODELS = "/v1/models/"
"""What follows is a model's id, which may hold slashes."""
# Fields of a request that decide something: of two, one program would take the first and another the last.
SINGLE_FIELDS = (
    *(b"x-api-key", b"x-session-id", b"x-signet-deadline-ms", b"x-signet-mark", b"x-signet-priority"),
    b"x-signet-receipt",
)
REQUESTED_FIELDS = b"authorization, content-type, x-api-key, x-signet-mark, x-signet-receipt"
EXPOSED_FIELDS = (
    b"X-Request-Id, X-Signet-Mark, X-Signet-Receipt, X-Signet-Policy, X-Signet-Ignored-Fields, X-Signet-Degraded, "
    b"Retry-After, X-Should-Retry, ETag, X-RateLimit-Limit-Requests, X-RateLimit-Remaining-Requests, "
    b"X-RateLimit-Reset-Requests, X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Tokens, X-RateLimit-Reset-Tokens"
)
TEXT = (b"content-type", b"text/plain; charset=utf-8")

Page = Callable[[RequestContext, str], Awaitable[tuple[int, bytes, Headers]]]


class GatewayApp:
    """Dispatches one request.

    Args:
        pipeline: what answers the paths of `ENDPOINTS`.
        settings: what the gateway runs with.
        registry: metrics to expose at `/metrics`.
        rest: the application that serves every other path.
        close: called when all have stopped.
    """

    LIVE = ("gateway.max_other_body_bytes", "gateway.model_folders", "gateway.models", "guard")

    def __init__(
        self,
        pipeline: Pipeline,
        settings: Settings,
        registry: CollectorRegistry,
        rest: AsgiApp,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.pipeline = pipeline
        self.metrics = pipeline.answer.metrics
        self._apply(settings)
        self.registry = registry
        self.draining = False
        """Whether the process is about to go: it answers, and asks to be sent nothing new."""
        self.exposition = self._own_exposition
        self._rest = rest
        self._close = close
        self._pages: dict[str, Page] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/readyz/engines": self._engines_ready,
            "/metrics": self._metrics,
            "/v1/models": self._models,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        receive, send = extended(scope, receive, send)
        path: str = scope["path"]
        endpoint = ENDPOINTS.get(path)
        if endpoint is not None:
            client: Client = scope["extensions"][EXTENSION]
            context = RequestContext(endpoint, client.headers, b"")
            if scope["method"] == "POST":
                await self.pipeline.handle(context, client, receive, send)
            else:
                error = MethodNotAllowed(f"{path} takes POST.")
                await send_error(send, error, [(b"allow", b"POST")], context.error_body(error))
        elif (page := self._pages.get(path)) is not None:
            await self._show(page, scope, send)
        elif path.startswith(MODELS) and path != MODELS:
            await self._show(self._model, scope, send)
        else:
            await self._rest(scope, receive, send)

    def served(self) -> ServedApp:
        """This application, as its HTTP server has to know it."""
        return ServedApp(
            self,
            error_body=refusal_body,
            probe_paths=PROBE_PATHS,
            names_below=[MODELS],
            single_fields=SINGLE_FIELDS,
            requested_fields=REQUESTED_FIELDS,
            exposed_fields=EXPOSED_FIELDS,
            on_refused=self.metrics.error,
            holder_of=self._holder_of,
        )

    def _holder_of(self, headers: dict[bytes, bytes]) -> str | None:
        """The tenant whose key a request presents, where the key is known in memory."""
        try:
            holder = self.pipeline.understand.identity.authenticate(presented_key(headers))
        except GatewayError:
            return None
        return None if holder is None else holder.tenant

    def parts(self) -> list[Part]:
        """What takes up which settings while it runs."""
        return [*self.pipeline.parts(), Part(self.LIVE, self._apply)]

    def _apply(self, settings: Settings) -> None:
        self.settings = settings
        _expect_series(self.metrics, settings)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await receive()
        await self.pipeline.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.pipeline.stop()
        self._close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _show(self, page: Page, scope: Scope, send: Send) -> None:
        context = RequestContext(CHAT, dict(scope["headers"]), b"")
        request_id = (b"x-request-id", context.request_id.encode())
        if scope["method"] not in ("GET", "HEAD"):
            await send_error(send, MethodNotAllowed(f"{scope['path']} takes GET."), [(b"allow", b"GET"), request_id])
            return
        try:
            if scope["path"] not in PROBE_PATHS:
                await authenticate(context, self.pipeline.understand.identity)
            status, body, headers = await page(context, scope["path"])
        except GatewayError as error:
            self.metrics.error(error.code)
            await send_error(send, error, [request_id])
            return
        await send_whole(send, status, body, [*headers, request_id])

    async def _healthz(self, _: RequestContext, __: str) -> tuple[int, bytes, Headers]:
        return 200, b"ok\n", [TEXT]

    async def _readyz(self, _: RequestContext, __: str) -> tuple[int, bytes, Headers]:
        # Not whether there is an engine: without one, clients would get refused connections in place of an error that
        # says when to ask again, and keys, receipts and moderation would be gone too.
        if self.draining:
            return 503, b"draining\n", [TEXT]
        if not self.pipeline.understand.identity.is_ready:
            return 503, b"waiting for the database: no key is known yet\n", [TEXT, (b"retry-after", b"2")]
        return 200, b"ready\n", [TEXT]

    async def _engines_ready(self, _: RequestContext, __: str) -> tuple[int, bytes, Headers]:
        if self.draining:
            return 503, b"draining\n", [TEXT]
        if self.pipeline.answer.pool.ready:
            return 200, b"ready\n", [TEXT]
        return 503, b"no engine can answer\n", [TEXT, (b"retry-after", b"2")]

    async def _metrics(self, context: RequestContext, _: str) -> tuple[int, bytes, Headers]:
        wanted = format_for(context.headers.get(b"accept", b""))
        return 200, await self.exposition(wanted), [(b"content-type", wanted.content_type.encode())]

    async def _models(self, context: RequestContext, _: str) -> tuple[int, bytes, Headers]:
        assert context.principal is not None
        cards = self.pipeline.understand.models.cards()
        cards |= {card["id"]: card for card in self.pipeline.understand.prompts.cards()}
        shown = [card for name, card in cards.items() if context.principal.may_use_model(name)]
        return 200, encode({"object": "list", "data": shown}), [JSON]

    async def _model(self, context: RequestContext, path: str) -> tuple[int, bytes, Headers]:
        assert context.principal is not None
        name = path.removeprefix(MODELS)
        card = self._card(name) if context.principal.may_use_model(name) else None
        if card is None:
            message = (
                f"There is no model {name[:200]!r} here that this key may use. 'GET /v1/models' lists those it may."
            )
            raise ModelNotFound(message, param="model")
        return 200, encode({**card, "id": name}), [JSON]

    def _card(self, name: str) -> dict[str, Any] | None:
        if not name.startswith(PREFIX):
            return self.pipeline.understand.models.cards().get(name)
        try:
            return self.pipeline.understand.prompts.find(name).card()
        except PromptError:
            return None

    async def _own_exposition(self, wanted: Format) -> bytes:
        return await asyncio.to_thread(wanted.write, self.registry)


def _expect_series(metrics: GatewayMetrics, settings: Settings) -> None:
    """Show what a gateway with these settings may count."""
    metrics.expect_errors(sorted(set(_codes(GatewayError))))
    guard = settings.guard
    for direction, actions in (("input", guard.input), ("output", guard.output)):
        metrics.expect_guard(actions.acting().items(), direction)
    for name, model in settings.gateway.models.items():
        if model.shadow is not None:
            metrics.expect_shadow(name, model.shadow.target)


def _codes(kind: type[GatewayError]) -> Iterator[str]:
    yield kind.default_code
    for subclass in kind.__subclasses__():
        yield from _codes(subclass)
