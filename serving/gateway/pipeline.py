"""One request, top to bottom.

authenticate → reserve → sanitize → choose mark → inspect → judge by the policy → fair queue → choose engine →
relay → judge the answer → settle → finish the answer.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from monitoring.telemetry import GatewayMetrics, Tracing
from serving.gateway.adapters import Adapters
from serving.gateway.admission.admission import Admission
from serving.gateway.admission.demand import Demand
from serving.gateway.admission.fair_queue import Announcement
from serving.gateway.admission.permit import Permit
from serving.gateway.admission.priority import demand_of
from serving.gateway.answer.attempts import Attempts
from serving.gateway.answer.exchange import Exchange
from serving.gateway.answer.failover import Failover
from serving.gateway.answer.settle import Settlement
from serving.gateway.asgi import read_body
from serving.gateway.cleaning import RequestCleaning, offload, on_thread
from serving.gateway.context import RequestContext
from serving.gateway.engines.drains import Drains
from serving.gateway.engines.pool import EnginePool
from serving.gateway.errors import EngineUnavailable, GatewayError
from serving.gateway.policy import PolicySteps
from serving.gateway.prompts import PREFIX, PromptLibrary
from serving.gateway.prompts.step import apply_template
from serving.gateway.routing.models import ModelTable
from serving.gateway.routing.shadow import Shadows
from serving.gateway.settings import GatewaySettings
from serving.gateway.steps.authenticate import authenticate, check_endpoint, check_scope
from serving.gateway.steps.cache_salt import CacheSalts
from serving.gateway.steps.inspect import Inspector
from serving.gateway.steps.mark import choose_mark
from serving.gateway.steps.media import media_of
from serving.gateway.steps.question import QuestionReader
from serving.gateway.steps.receipt import begin_receipt
from serving.gateway.steps.reserve import Reserver
from serving.guard.question.limits import SMALL_BYTES
from serving.http.asgi import Client, Receive, Send
from serving.http.buffers import ONE_HOLDER
from serving.http.errors import ClientGone
from serving.identity import Identity, Limiter
from serving.ledger import AnchorPublisher, Ledger, PriceList
from serving.provenance import Keyring
from serving.provenance.receipts import ReceiptIssuer

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Pipeline:
    """The parts that every request meets, made once."""

    settings: GatewaySettings
    questions: QuestionReader
    salts: CacheSalts
    identity: Identity
    limiter: Limiter
    reserver: Reserver
    cleaning: RequestCleaning
    inspector: Inspector
    policy_steps: PolicySteps
    keyring: Keyring | None
    pool: EnginePool
    drains: Drains
    adapters: Adapters
    models: ModelTable
    shadows: Shadows
    failover: Failover
    admission: Admission
    ledger: Ledger
    anchors: AnchorPublisher
    prices: PriceList
    receipts: ReceiptIssuer | None
    prompts: PromptLibrary
    metrics: GatewayMetrics
    tracing: Tracing

    async def start(self) -> None:
        """Open what needs a running event loop."""
        self.identity.start()
        self.ledger.start(wait=True)
        await self.limiter.start()
        await self.pool.start()
        self.prompts.start()
        self.policy_steps.start()
        self.drains.start()
        self.adapters.start()
        self.anchors.start()

    async def stop(self) -> None:
        """Close everything; no request is open any more."""
        await self.anchors.stop()
        await self.adapters.stop()
        await self.drains.stop()
        await self.prompts.stop()
        await self.policy_steps.stop()
        await self.shadows.stop()
        await self.pool.stop()
        await self.limiter.stop()
        self.inspector.stop()
        await self.cleaning.stop()
        await asyncio.to_thread(self.ledger.stop)
        await asyncio.to_thread(self.identity.close)
        await asyncio.to_thread(self.tracing.stop)

    async def handle(self, context: RequestContext, client: Client, receive: Receive, send: Send) -> None:
        """Answer one request. Every failure ends in OpenAI-shaped JSON; nothing is raised."""
        settlement = Settlement(context, self.ledger, self.metrics, self.tracing, self.prices, self.receipts)
        attempts = Attempts(context, settlement, self.pool, self.tracing, self.failover)
        exchange = Exchange(
            context,
            settlement,
            send,
            client,
            attempts,
            failover=self.failover,
            policy_steps=self.policy_steps,
            max_bytes=min(self.settings.max_answer_bytes, self.settings.http.max_buffered_bytes // ONE_HOLDER),
        )
        cancel_on_disconnect = _CancelOnDisconnect(client)
        announcement: Announcement | None = None
        try:
            await authenticate(context, self.identity)
            check_endpoint(context)
            context.raw_body = await read_body(receive, self.settings.max_body_bytes)
            await self._understand(context)
            await self.reserver.reserve(context)
            demand, announcement = self._announce(context)
            client.on_disconnect(cancel_on_disconnect)
            await self._prepare(context)
            if self.inspector.active:
                await self.inspector.inspect(context)
            if self.policy_steps.policy is not None and not await self._keeps_policy(context, demand):
                await exchange.refuse()
                return
            if announcement is not None:
                announcement.withdraw()
            await self._admit(context, demand)
            await exchange.run()
            if context.route is not None and context.route.shadow is not None:
                self.shadows.answered(context)
        except GatewayError as error:
            # Frames that it passed through may know it by name: a cycle, which would keep all of the request.
            error.__traceback__ = error.__context__ = None
            await exchange.fail(error)
        except ClientGone:
            await exchange.abandon()
        except asyncio.CancelledError:
            if cancel_on_disconnect.disconnected:
                await exchange.abandon()
            else:
                await exchange.fail(EngineUnavailable("The gateway is stopping. Ask again.", code="stopping"))
        except Exception:
            log.exception("unexpected failure", extra={"request_id": context.request_id})
            await exchange.fail(GatewayError("The gateway failed on this request. Its log has the request id."))
        finally:
            if announcement is not None:
                announcement.withdraw()
            if context.permit is not None:
                _end(context.permit, context)
                context.permit = None
            exchange.close()
            settlement.close()

    async def _understand(self, context: RequestContext) -> None:
        if len(context.raw_body) <= SMALL_BYTES:
            self._read(context)
        else:
            async with self.cleaning.step(context):
                # On a thread, with which the event loop takes turns every few milliseconds.
                await on_thread(self._read_large, context)
        if context.model.startswith(PREFIX):
            # Patterns of the template's variables take their time with long values.
            size = len(context.raw_body)
            await offload(context.tenant, size, apply_template, context, self.prompts, self.pool.only_model)
        self.models.resolve(context)

    async def _prepare(self, context: RequestContext) -> None:
        if not self.cleaning.clean_nowait(context):
            await self.cleaning.clean(context)
        choose_mark(context, self.keyring, self.pool)
        context.trace = self.tracing.start_request(context)

    def _read_large(self, context: RequestContext) -> None:
        self._read(context)
        context.media = media_of(context.body)

    def _read(self, context: RequestContext) -> None:
        body = self.questions.read(context)
        self.salts.salt(context)
        if self.receipts is not None:
            begin_receipt(context, self.receipts, body)
        check_scope(context)

    def _announce(self, context: RequestContext) -> tuple[Demand, Announcement | None]:
        """Refuse now what the queue would refuse, before more is spent on it."""
        settings = self.admission.settings
        demand = demand_of(context, is_queued=settings.enabled, engine_priority=settings.engine_priority)
        return demand, self.admission.announce(demand) if settings.enabled else None

    async def _keeps_policy(self, context: RequestContext, demand: Demand) -> bool:
        self.policy_steps.concern(context, demand)
        review = context.review
        if review is not None:
            await self.policy_steps.judge_input(context, review)
        return review is None or review.refused_by is None

    async def _admit(self, context: RequestContext, demand: Demand) -> None:
        demand.measure(context.prompt_chars, is_embedding=context.endpoint.name == "embeddings")
        context.slots = demand.slots
        if self.admission.settings.enabled:
            context.permit = self.admission.try_enter(demand) or await self.admission.wait(demand)


def _end(permit: Permit, context: RequestContext) -> None:
    if context.usage_reported or context.completion_tokens:
        permit.settle(context.prompt_tokens, context.completion_tokens, context.engine)
    permit.release()


class _CancelOnDisconnect:
    """Cancels the request when its client closes the connection, so that the engine stops generating."""

    __slots__ = ("_client", "disconnected")

    def __init__(self, client: Client) -> None:
        self._client = client
        self.disconnected = False

    def __call__(self) -> None:
        self.disconnected = True
        self._client.cancel()
