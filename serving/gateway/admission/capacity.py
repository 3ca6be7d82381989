"""Which engines have room for a model, and which models compete for the same engines."""

from __future__ import annotations

from collections.abc import Callable

from serving.gateway.admission.concurrency import Bounds, ConcurrencyLimit
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.pool import EnginePool

# Adapters come and go on an engine that stays: what serves what is looked up again after this.
_TRUST_S = 1.0


class Capacity:
    """The engines' slots, from the pool. Gives every engine its limit."""

    def __init__(self, pool: EnginePool, bounds: Bounds, on_growth: Callable[[], None]) -> None:
        self._pool = pool
        self._bounds = bounds
        self._on_growth = on_growth
        self._engines: dict[str, list[Engine]] = {}
        self._queue_names: dict[str, str] = {}
        self._limits: dict[Engine, ConcurrencyLimit] = {}
        self._trusted_until = 0.0
        pool.on_change.append(lambda _: self.forget())

    def apply(self, bounds: Bounds) -> None:
        self._bounds = bounds
        for limit in self._limits.values():
            limit.apply(bounds)

    def forget(self) -> None:
        """The engines have changed."""
        self._trusted_until = 0.0

    @property
    def queue_names(self) -> set[str]:
        return set(self._queue_names.values())

    @property
    def limits(self) -> dict[str, int]:
        """Every engine's limit, by the engine's name."""
        return {engine.name: limit.limit for engine, limit in self._limits.items()}

    def limit_of(self, engine: Engine) -> ConcurrencyLimit | None:
        return self._limits.get(engine)

    def queue_name(self, model: str, now: float) -> str:
        """Models with the same name here share engines, be it through others."""
        self._refresh(now)
        name = self._queue_names.get(model)
        if name is None:
            serving = self._serving(model)
            name = self._group_name(self._group_of(serving[0])) if serving else model
            self._queue_names[model] = name
        return name

    def has_room(self, model: str, now: float) -> bool:
        """Whether an engine could take one more now; also when none is up, which the choice of the engine tells."""
        self._refresh(now)
        any_up = False
        for engine in self._serving(model):
            if engine.available:
                if engine.has_room() and engine.circuit.allows():
                    return True
                any_up = True
        return not any_up or self.room(model, now)[0] > 0

    def room(self, model: str, now: float) -> tuple[int, int]:
        """Free slots and all slots for the model; where no engine is up, one is always free."""
        self._refresh(now)
        present = [engine for engine in self._serving(model) if engine.available]
        if not present:
            return 1 << 30, 1 << 30
        usable = [engine for engine in present if engine.circuit.allows()] or present
        limits = [self._limits[engine].limit for engine in usable]
        free = sum(max(0, limit - engine.in_flight) for engine, limit in zip(usable, limits, strict=True))
        return free, sum(limits)

    def _serving(self, model: str) -> list[Engine]:
        engines = self._engines.get(model)
        if engines is None:
            engines = self._engines[model] = [engine for engine in self._limits if engine.serves(model)]
        return engines

    def _refresh(self, now: float) -> None:
        if now < self._trusted_until:
            return
        self._trusted_until = now + _TRUST_S
        self._engines.clear()
        self._queue_names.clear()
        engines = self._pool.engines
        self._limits = {engine: self._limits.get(engine) or self._new_limit(engine) for engine in engines}

    def _new_limit(self, engine: Engine) -> ConcurrencyLimit:
        limit = engine.limit = ConcurrencyLimit(self._bounds, self._on_growth)
        return limit

    def _group_of(self, engine: Engine) -> set[Engine]:
        """All engines that share a model with this one, or with one that does."""
        group, border = {engine}, [engine]
        while border:
            one = border.pop()
            for other in self._limits:
                if other not in group and _share_models(one, other):
                    group.add(other)
                    border.append(other)
        return group

    def _group_name(self, group: set[Engine]) -> str:
        return min((model for engine in group for model in engine.cards), default=min(engine.name for engine in group))


def _share_models(one: Engine, other: Engine) -> bool:
    return not one.lists_models or not other.lists_models or not one.cards.keys().isdisjoint(other.cards)
