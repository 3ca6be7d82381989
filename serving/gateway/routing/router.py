"""Which engine answers a request: among those that can, the one of the least cost (`score`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

from serving.gateway.context import RequestContext
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.pool import EnginePool
from serving.gateway.errors import RETRY_AFTER, EngineOverloaded, EngineUnavailable
from serving.gateway.routing.prompt import Affinity, read_affinity
from serving.gateway.routing.route import Route
from serving.gateway.routing.score import Placement, note_sent
from serving.gateway.settings.routing import RoutingSettings

Headers = tuple[tuple[bytes, bytes], ...]

_OVERLOADED = "Every engine of this model takes no more for now. Try again later."


class Choice(NamedTuple):
    """An engine, and the characters of the prompt that it has not read before."""

    engine: Engine
    uncached_chars: int = 0
    affinity: Affinity | None = None
    """Where the request would like to go, to be handed back when it must be sent once more; None: nobody looked."""


class Router:
    """Places requests on the pool's engines, and remembers where prompts were."""

    LIVE = ("gateway.routing",)

    def __init__(self, pool: EnginePool, settings: RoutingSettings) -> None:
        self.pool = pool
        self._placement = Placement(settings)

    def apply(self, settings: RoutingSettings) -> None:
        """Weigh by other settings from now on."""
        self._placement.settings = settings

    def choose(
        self,
        context: RequestContext,
        route: Route | None,
        tried: Collection[Engine] = (),
        affinity: Affinity | None = None,
    ) -> Choice:
        """The best of the candidates. Raises: as `candidates`."""
        question = context.question
        candidates = self.candidates(question.model, route, tried)
        if len(candidates) == 1:
            return Choice(candidates[0], affinity=affinity)
        placement = self._placement
        if affinity is None:
            affinity = read_affinity(context.headers, question.body, placement.settings, question.cache_salt)
        chosen = placement.choose(candidates, affinity.prompt, affinity.session)
        uncached_chars = note_sent(chosen, affinity.prompt)
        # An answer in one piece does not show when its prefill ended: most of its time is decoding.
        return Choice(chosen, uncached_chars if question.stream else uncached_chars // 4, affinity)

    def candidates(self, model: str, route: Route | None, tried: Collection[Engine]) -> list[Engine]:
        """The engines that can answer and were not tried before.

        An engine that is full, or whose circuit is open, is passed over while there is another: traffic alone never
        takes the last engine away. One that has asked to be left alone is.

        Raises:
            EngineUnavailable: none is left.
            EngineOverloaded: all that are left have asked to be left alone.
        """
        present = [e for e in self.pool.engines if e.available and e.serves(model) and e not in tried]
        if route is not None and route.only is not None:
            present = [engine for engine in present if route.allows(engine.name)]
        candidates = [e for e in present if e.circuit.allows() and e.has_room()]
        if not candidates:
            candidates = [e for e in present if not e.circuit.rest_s]
            if present and not candidates:
                raise EngineOverloaded(_OVERLOADED, headers=_retry_after(present))
        if not candidates:
            raise EngineUnavailable(
                f"No engine for {model!r} can be reached just now. Try again shortly.", headers=RETRY_AFTER
            )
        return candidates

    def choose_idlest(self, model: str, *, must_have_room: bool) -> Engine | None:
        """The engine with least to do, for what the gateway itself asks; None: none is well and serves the model."""
        fit = [
            engine
            for engine in self.pool.engines
            if engine.available and engine.serves(model) and engine.circuit.state == "closed"
        ]
        with_room = [engine for engine in fit if engine.has_room()]
        candidates = with_room if must_have_room else with_room or fit
        return min(candidates, key=lambda engine: engine.load, default=None)

    def retry_after(self, model: str) -> Headers:
        """When an engine of the model may be asked again, for those that all have asked to be left alone."""
        return _retry_after(engine for engine in self.pool.engines if engine.serves(model))


def _retry_after(engines: Iterable[Engine]) -> Headers:
    """When the first of the engines that asked to be left alone may be asked again; in a second where none did."""
    rests = [rest for engine in engines if (rest := engine.circuit.rest_s)]
    return ((b"retry-after", str(math.ceil(min(rests, default=1.0))).encode()),)
