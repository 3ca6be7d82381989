"""What model names mean: aliases, live adapters, the engines that a model is kept to, canaries, shadows."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import translate
from typing import Any
from zlib import crc32

from serving.gateway.context import RequestContext
from serving.gateway.engines.pool import EnginePool
from serving.gateway.errors import RETRY_AFTER, EngineUnavailable, ModelNotFound
from serving.gateway.routing.prompt import session_key
from serving.gateway.routing.rendezvous import weight
from serving.gateway.routing.route import Route
from serving.gateway.settings.routing import CanarySettings, ModelSettings
from serving.identity import LiveAdapter


@dataclass(frozen=True, slots=True)
class _Named:
    stable: Route
    canary: Route | None
    settings: CanarySettings | None


class ModelTable:
    """All configured names, and those of live adapters. Other names mean the engines' models of that name.

    `adapters` tells which are live now, by name.
    """

    LIVE = ("gateway.models",)

    def __init__(
        self,
        models: Mapping[str, ModelSettings],
        pool: EnginePool,
        adapters: Callable[[], Mapping[str, LiveAdapter]] = dict,
    ) -> None:
        self._pool = pool
        self._adapters = adapters
        self._named = _table(models)

    def apply(self, models: Mapping[str, ModelSettings]) -> None:
        """Take other names from now on.

        Raises:
            ValueError: a name leads to another configured one; nothing has changed then.
        """
        self._named = _table(models)

    def resolve(self, context: RequestContext) -> Route | None:
        """Turn the name that was asked for into a model that an engine serves; returns where a configured name leads.

        Raises:
            ModelNotFound: engines are known and none has it.
            EngineUnavailable: no engine has been seen yet, so nothing can be said.
        """
        question = context.question
        name = question.model
        # A template's name, where one led here, is what the client asked for.
        question.asked_model = question.asked_model or name
        named = self._named.get(name) if self._named else None
        route = self._choose(named, context) if named is not None else None
        if route is not None:
            question.model = question.body["model"] = route.model
        if (adapter := self._adapters().get(question.model)) is not None:
            target = self._served_version(adapter)
            route = replace(route, model=target) if route else Route(name, target)
            question.model = question.body["model"] = target
        if any(engine.serves(question.model) for engine in self._pool.engines):
            return route
        known = sorted(self.cards())
        if not known:
            raise EngineUnavailable("No engine is ready yet. Try again shortly.", headers=RETRY_AFTER)
        if route is not None:
            raise EngineUnavailable(f"No engine serves {question.model!r} just now.", headers=RETRY_AFTER)
        raise ModelNotFound(f"The model {name[:200]!r} does not exist. Served here: {', '.join(known)}.", param="model")

    def cards(self) -> dict[str, dict[str, Any]]:
        """Every model that may be asked for, with the engine's description of it."""
        cards = dict(self._pool.model_cards())
        for name, adapter in self._adapters().items():
            target = self._served_version(adapter)
            if target in cards:
                cards[name] = {**cards[target], "id": name}
        served = dict(cards)
        for name, named in self._named.items():
            target = named.stable.model
            if target in served:
                cards[name] = {**served[target], "id": name, **({"parent": target} if name != target else {})}
        return cards

    def engine_models(self) -> set[str]:
        """What engines are asked for: the models that they serve, and those that are configured and not there yet."""
        named = (route.model for each in self._named.values() for route in (each.stable, each.canary) if route)
        return {*self._pool.model_cards(), *named}

    def _served_version(self, adapter: LiveAdapter) -> str:
        """The version's name in engines; while it is on its way to them all, that of the one it replaces."""
        wanted = adapter.served_name
        if not self._pool.lists(wanted):
            for model in self._pool.model_cards():
                if model.startswith(adapter.name + "@"):
                    return model
        return wanted

    def _choose(self, named: _Named, context: RequestContext) -> Route:
        canary = named.canary
        if canary is None or named.settings is None:
            return named.stable
        if _draw(named.settings, context) >= named.settings.share or not self._can_answer(canary):
            return named.stable
        return canary

    def _can_answer(self, route: Route) -> bool:
        # A canary that is down must not cost anyone an answer.
        adapter = self._adapters().get(route.model)
        model = route.model if adapter is None else self._served_version(adapter)
        return any(
            engine.available and engine.serves(model) and route.allows(engine.name) for engine in self._pool.engines
        )


def _table(models: Mapping[str, ModelSettings]) -> dict[str, _Named]:
    return {name: _named(name, settings, models) for name, settings in models.items()}


def _named(name: str, settings: ModelSettings, models: Mapping[str, ModelSettings]) -> _Named:
    target = settings.target or name
    canary = settings.canary
    for other in (target, canary.target if canary else None, settings.shadow.target if settings.shadow else None):
        if other is not None and other != name and models.get(other) is not None and models[other].target is not None:
            raise ValueError(f"gateway.models.{name}: {other!r} is another configured name; give the model it means.")
    only = re.compile("|".join(translate(pattern) for pattern in settings.engines)) if settings.engines else None
    return _Named(
        Route(name, target, only, settings.shadow),
        Route(name, canary.target) if canary is not None else None,
        canary,
    )


def _draw(settings: CanarySettings, context: RequestContext) -> float:
    """A number from 0 to 1: the same one for the same session or tenant, in every replica of the gateway."""
    key: int | None = None
    if settings.sticky == "session":
        key = session_key(context.headers, context.question.body)
    elif settings.sticky == "tenant" and context.principal is not None:
        key = crc32(context.principal.tenant.encode())
    if key is None:
        return random.random()  # noqa: S311
    # With the target in it, the same sessions are not the canaries of every roll-out.
    return weight(key, crc32(settings.target.encode())) / 2**64
