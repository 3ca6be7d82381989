"""The second stage, in two halves: may the request be made at all, and, once it is ready, may it go to an engine."""

from __future__ import annotations

from serving.gateway.admission.admission import Admission
from serving.gateway.admission.permit import Entry
from serving.gateway.admission.priority import demand_of
from serving.gateway.context import RequestContext
from serving.gateway.reload import Part
from serving.gateway.steps.reserve import Reserver
from serving.identity import Limiter


class Admit:
    """Limits, budgets and the fair queue."""

    def __init__(self, limiter: Limiter, reserver: Reserver, admission: Admission) -> None:
        self._limiter = limiter
        self._reserver = reserver
        self._admission = admission

    async def start(self) -> None:
        await self._limiter.start()

    async def stop(self) -> None:
        await self._limiter.stop()

    def parts(self) -> list[Part]:
        return [
            Part(Limiter.LIVE, lambda settings: self._limiter.apply(settings.identity)),
            Part(Admission.LIVE, lambda settings: self._admission.apply(settings.gateway.admission)),
        ]

    async def reserve(self, context: RequestContext, *, is_checked: bool) -> Entry:
        """Reserve what the request may need, and refuse what the queue would refuse, before more is spent on it.

        `is_checked`: classifiers or a policy are to be asked before it can go.
        """
        await self._reserver.reserve(context)
        settings = self._admission.settings
        demand = demand_of(context, is_queued=settings.enabled, engine_priority=settings.engine_priority)
        return Entry(demand, self._admission.announce(demand, is_checked=is_checked) if settings.enabled else None)

    async def enter(self, context: RequestContext, entry: Entry) -> None:
        """Wait for the request's permit. From here to the engine there is no await."""
        if entry.announcement is not None:
            entry.announcement.withdraw()
        demand = entry.demand
        demand.measure(context.question.prompt_chars, is_embedding=context.endpoint.name == "embeddings")
        if self._admission.settings.enabled:
            entry.permit = self._admission.try_enter(demand) or await self._admission.wait(demand)
