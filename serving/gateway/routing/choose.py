"""Which engine answers a request: among those that can, the one of the least cost (`score`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from serving.gateway.context import RequestContext
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.pool import EnginePool
from serving.gateway.errors import RETRY_AFTER, EngineOverloaded, EngineUnavailable
from serving.gateway.routing.prompt import read_affinity
from serving.gateway.routing.score import note_sent

_OVERLOADED = "Every engine of this model takes no more for now. Try again later."


def retry_after(engines: Iterable[Engine]) -> tuple[tuple[bytes, bytes], ...]:
    """When the first of the engines that asked to be left alone may be asked again; in a second where none did."""
    rests = [rest for engine in engines if (rest := engine.circuit.rest_s)]
    return ((b"retry-after", str(math.ceil(min(rests, default=1.0))).encode()),)


def choose_engine(pool: EnginePool, context: RequestContext, tried: Collection[Engine] = ()) -> Engine:
    """The best engine that can answer and was not tried before; sets `context.uncached_chars`.

    An engine that is full, or whose circuit is open, is passed over while there is another: traffic alone never
    takes the last engine away. One that has asked to be left alone is.

    Raises:
        EngineUnavailable: none is left.
        EngineOverloaded: all that are left have asked to be left alone.
    """
    model, route = context.model, context.route
    present = [e for e in pool.engines if e.available and e.serves(model) and e not in tried]
    if route is not None and route.only is not None:
        present = [engine for engine in present if route.allows(engine.name)]
    candidates = [e for e in present if e.circuit.allows() and e.has_room()]
    if not candidates:
        candidates = [e for e in present if not e.circuit.rest_s]
        if present and not candidates:
            raise EngineOverloaded(_OVERLOADED, headers=retry_after(present))
    if len(candidates) == 1:
        context.uncached_chars = 0
        return candidates[0]
    if not candidates:
        raise EngineUnavailable(
            f"No engine for {model!r} can be reached just now. Try again shortly.", headers=RETRY_AFTER
        )
    affinity = context.affinity
    if affinity is None:
        affinity = context.affinity = read_affinity(
            context.headers, context.body, pool.placement.settings, context.cache_salt
        )
    chosen = pool.placement.choose(candidates, affinity.prompt, affinity.session)
    uncached_chars = note_sent(chosen, affinity.prompt)
    # An answer in one piece does not show when its prefill ended: most of its time is decoding.
    context.uncached_chars = uncached_chars if context.stream else uncached_chars // 4
    return chosen
