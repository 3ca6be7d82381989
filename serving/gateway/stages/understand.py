"""The first stage: who asks, and what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from serving.gateway.asgi import read_body
from serving.gateway.cleaning import RequestCleaning, offload, on_thread
from serving.gateway.context import RequestContext
from serving.gateway.prompts import PREFIX, PromptLibrary
from serving.gateway.reload import Part
from serving.gateway.routing.models import ModelTable
from serving.gateway.routing.route import Route
from serving.gateway.settings import GatewaySettings
from serving.gateway.steps.authenticate import authenticate, check_endpoint, check_scope
from serving.gateway.steps.cache_salt import CacheSalts
from serving.gateway.steps.media import media_of
from serving.gateway.steps.question import QuestionReader
from serving.gateway.steps.receipt import begin_receipt
from serving.gateway.steps.template import apply_template
from serving.guard.question.limits import SMALL_BYTES
from serving.http.asgi import Receive
from serving.identity import Identity
from serving.provenance.receipts import ReceiptIssuer


class Understand:
    """Nothing of a question is read before its sender is known."""

    def __init__(
        self,
        settings: GatewaySettings,
        identity: Identity,
        salts: CacheSalts,
        cleaning: RequestCleaning,
        prompts: PromptLibrary,
        models: ModelTable,
        only_model: Callable[[], str | None],
        receipts: Callable[[], ReceiptIssuer | None],
    ) -> None:
        """`only_model`: the served model, where there is exactly one."""
        self.identity = identity
        self.prompts = prompts
        self.models = models
        self._questions = QuestionReader(settings)
        self._max_body_bytes = settings.max_body_bytes
        self._salts = salts
        self._cleaning = cleaning
        self._only_model = only_model
        self._receipts = receipts

    async def start(self) -> None:
        self.identity.start()
        self.prompts.start()

    async def stop(self) -> None:
        await self.prompts.stop()
        await asyncio.to_thread(self.identity.close)

    def parts(self) -> list[Part]:
        return [
            Part(ModelTable.LIVE, lambda settings: self.models.apply(settings.gateway.models)),
            Part(PromptLibrary.LIVE, lambda settings: self.prompts.apply(settings.gateway.prompts)),
            Part(Identity.LIVE, lambda settings: self.identity.apply(settings.identity)),
            Part(QuestionReader.LIVE, lambda settings: self._questions.apply(settings.gateway)),
            Part(CacheSalts.LIVE, lambda settings: self._salts.apply(settings.gateway.shared_cache)),
            Part(("gateway.max_body_bytes",), lambda settings: self._bound(settings.gateway)),
        ]

    def authenticate(self, context: RequestContext) -> Awaitable[object]:
        """Who asks."""
        return authenticate(context, self.identity)

    async def read(self, context: RequestContext, receive: Receive) -> Route | None:
        """What they ask, if they may, of which of the engines' models; returns where a configured name leads."""
        check_endpoint(context)
        context.raw_body = await read_body(receive, self._max_body_bytes)
        if len(context.raw_body) <= SMALL_BYTES:
            self._read(context)
        else:
            async with self._cleaning.step(context):
                # On a thread, with which the event loop takes turns every few milliseconds.
                await on_thread(self._read_large, context)
        if context.question.model.startswith(PREFIX):
            # Patterns of the template's variables take their time with long values.
            size = len(context.raw_body)
            await offload(context.tenant, size, apply_template, context, self.prompts, self._only_model)
        return self.models.resolve(context)

    def _read_large(self, context: RequestContext) -> None:
        self._read(context)
        context.question.media = media_of(context.question.body)

    def _read(self, context: RequestContext) -> None:
        body = self._questions.read(context)
        self._salts.salt(context)
        if (issuer := self._receipts()) is not None:
            begin_receipt(context, issuer, body)
        check_scope(context)

    def _bound(self, settings: GatewaySettings) -> None:
        self._max_body_bytes = settings.max_body_bytes
