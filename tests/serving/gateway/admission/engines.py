"""Engines as admission sees them: a state, slots and models, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from serving.gateway.admission.admission import Admission
from serving.gateway.admission.demand import Demand
from serving.gateway.admission.fair_queue import Announcement
from serving.gateway.admission.permit import Permit
from serving.gateway.admission.priority import demand_of
from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT
from serving.gateway.settings.admission import AdmissionSettings
from serving.identity import Principal


class Circuit:
    def __init__(self) -> None:
        self.closed = True

    def allows(self) -> bool:
        return self.closed


class SeenEngine:
    def __init__(self, name: str, *models: str) -> None:
        self.name = name
        self.cards: dict[str, Any] = {model: {} for model in models or ("m",)}
        self.lists_models = True
        self.available, self.in_flight = True, 0
        self.limit: Any = None
        self.circuit = Circuit()

    def serves(self, model: str) -> bool:
        return model in self.cards

    def has_room(self) -> bool:
        return self.limit is None or self.in_flight < self.limit.limit


class SeenPool:
    def __init__(self, *engines: SeenEngine) -> None:
        self.engines = list(engines)
        self.on_capacity: list[Callable[[], None]] = []
        self.on_change: list[Callable[[Any], None]] = []

    def changed(self, engine: SeenEngine) -> None:
        for callback in self.on_change:
            callback(engine)
        for called in self.on_capacity:
            called()


class Gate:
    """Admission in front of such engines; requests are made, sent and ended by hand."""

    def __init__(self, *engines: SeenEngine, **settings: Any) -> None:
        self.pool = SeenPool(*(engines or (SeenEngine("one"),)))
        values = {"adaptive": False, "concurrency": 1, "headroom": 0.0, **settings}
        self.admission = Admission(AdmissionSettings(**values), self.pool)  # type: ignore[arg-type]
        self.order: list[str] = []
        self.taken: dict[Permit, SeenEngine] = {}

    def context(self, tenant: str = "a", model: str = "m", weight: float = 1.0, **more: Any) -> RequestContext:
        headers = more.pop("headers", {})
        sequences = more.pop("sequences", 1)
        context = RequestContext(CHAT, headers, b"")
        context.principal = Principal("key", tenant, weight=weight, priority=more.pop("priority", 5))
        context.question.model = model
        context.question.sequences = sequences
        context.question.body = {"model": model, **more}
        context.question.prompt_chars = 40
        return context

    def demand(self, context: RequestContext | None = None) -> Demand:
        context = context or self.context()
        settings = self.admission.settings
        demand = demand_of(context, is_queued=settings.enabled, engine_priority=settings.engine_priority)
        demand.measure(context.question.prompt_chars, is_embedding=context.endpoint.name == "embeddings")
        return demand

    def announce(self, demand: Demand) -> Announcement:
        """A request that is checked before it can go."""
        announcement = self.admission.announce(demand)
        assert announcement is not None
        return announcement

    async def enter(self, context: RequestContext) -> Permit:
        demand = self.demand(context)
        permit = self.admission.try_enter(demand) or await self.admission.wait(demand)
        engine = min(
            (engine for engine in self.pool.engines if engine.serves(context.question.model)),
            key=lambda each: each.in_flight,
        )
        engine.in_flight += demand.slots
        self.taken[permit] = engine
        self.order.append(demand.tenant)
        return permit

    def ask(self, tenant: str = "a", model: str = "m", **more: Any) -> asyncio.Task[Permit]:
        return asyncio.create_task(self.enter(self.context(tenant, model, **more)))

    def end(self, permit: Permit, tokens: int = 0) -> None:
        """The answer is over, in the order in which the pipeline does it."""
        engine = self.taken.pop(permit)
        if tokens:
            permit.relayed(tokens, engine)  # type: ignore[arg-type]
        permit.release()
        engine.in_flight -= permit.demand.slots
        for callback in self.pool.on_capacity:
            callback()

    def is_clean(self) -> bool:
        """Whether nothing is counted any more, anywhere."""
        admission = self.admission
        queues = admission._queues.values()
        accounts = [
            account for queue in queues for found in queue._classes.values() for account in found.accounts.values()
        ]
        return (
            not admission._num_waiting
            and not admission._granted
            and not admission._queued
            and not any(admission._waiting.values())
            and not any(admission._running.values())
            and not any(queue.num_waiting or queue.num_running or queue.num_announced for queue in queues)
            and not any(
                tenant.num_running or tenant.num_waiting for queue in queues for tenant in queue.tenants.values()
            )
            and not any(account.num_running or account.num_waiting or account.waiting for account in accounts)
        )


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)
