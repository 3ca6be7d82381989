"""The last stage: engines are asked, and the answer is relayed, recorded and sent."""

from __future__ import annotations

import asyncio

from monitoring.telemetry import GatewayMetrics, Tracing
from serving.gateway.adapters import Adapters
from serving.gateway.answer.exchange import Exchange
from serving.gateway.answer.failover import Failover
from serving.gateway.answer.settle import Settlement
from serving.gateway.context import RequestContext
from serving.gateway.engines.drains import Drains
from serving.gateway.engines.pool import EnginePool
from serving.gateway.policy import PolicySteps
from serving.gateway.reload import Part
from serving.gateway.routing.route import Route
from serving.gateway.routing.router import Router
from serving.gateway.routing.shadow import Shadows
from serving.gateway.settings import GatewaySettings
from serving.gateway.steps.receipt import open_receipts
from serving.http.asgi import Client, Send
from serving.http.buffers import ONE_HOLDER
from serving.ledger import AnchorPublisher, Ledger, PriceList
from serving.settings import Settings


class Answer:
    """The engines, and what is kept of their answers."""

    def __init__(
        self,
        settings: Settings,
        router: Router,
        drains: Drains,
        adapters: Adapters,
        policy_steps: PolicySteps,
        ledger: Ledger,
        prices: PriceList,
        metrics: GatewayMetrics,
        tracing: Tracing,
    ) -> None:
        """Raises: ReceiptKeysError."""
        self.receipts = open_receipts(settings.receipts, settings.receipt_keys_file)
        self.pool = router.pool
        self.metrics = metrics
        self.anchors = AnchorPublisher(ledger, lambda: self.receipts)
        self._router = router
        self._drains = drains
        self._adapters = adapters
        self._shadows = Shadows(router, metrics)
        self._failover = Failover(settings.gateway.failover)
        self._policy_steps = policy_steps
        self._ledger = ledger
        self._prices = prices
        self._tracing = tracing
        self._bound(settings.gateway)

    async def start(self) -> None:
        self._ledger.start(wait=True)
        await self.pool.start()
        self._drains.start()
        self._adapters.start()
        self.anchors.start()

    async def stop(self) -> None:
        await self.anchors.stop()
        await self._adapters.stop()
        await self._drains.stop()
        await self._shadows.stop()
        await self.pool.stop()
        await asyncio.to_thread(self._ledger.stop)
        await asyncio.to_thread(self._tracing.stop)

    def parts(self) -> list[Part]:
        return [
            Part(EnginePool.LIVE, lambda settings: self.pool.apply(settings.gateway)),
            Part(Router.LIVE, lambda settings: self._router.apply(settings.gateway.routing)),
            Part(Failover.LIVE, lambda settings: self._failover.apply(settings.gateway.failover)),
            Part(Ledger.LIVE, lambda settings: self._ledger.apply(settings.ledger)),
            Part(PriceList.LIVE, lambda settings: self._prices.apply(settings.prices)),
            Part(("receipts",), self._open_receipts),
            Part(("gateway.max_answer_bytes", "gateway.http"), lambda settings: self._bound(settings.gateway)),
        ]

    def begin(self, context: RequestContext, client: Client, send: Send) -> Exchange:
        """Whatever becomes of the request, it is counted and answered by this."""
        settlement = Settlement(context, self._ledger, self.metrics, self._tracing, self._prices, self.receipts)
        return Exchange(
            context,
            settlement,
            send,
            client,
            router=self._router,
            failover=self._failover,
            policy_steps=self._policy_steps,
            max_bytes=self._max_bytes,
        )

    def end(self, context: RequestContext, route: Route) -> None:
        """The client has its answer: a shadow may be asked too."""
        if route.shadow is not None:
            self._shadows.answered(context, route.shadow)

    def _open_receipts(self, settings: Settings) -> None:
        self.receipts = open_receipts(settings.receipts, settings.receipt_keys_file)

    def _bound(self, settings: GatewaySettings) -> None:
        self._max_bytes = min(settings.max_answer_bytes, settings.http.max_buffered_bytes // ONE_HOLDER)
