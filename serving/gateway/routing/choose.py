"""Which engine answers a request: among those that can, the one of the least cost (`score`)."""

from __future__ import annotations

from collections.abc import Collection

from serving.gateway.context import RequestContext
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.pool import EnginePool
from serving.gateway.errors import EngineUnavailable
from serving.gateway.routing.prompt import read_affinity
from serving.gateway.routing.score import send

RETRY_AFTER = ((b"retry-after", b"2"),)


def choose_engine(pool: EnginePool, context: RequestContext, tried: Collection[Engine] = ()) -> Engine:
    """The best engine that can answer and was not tried before; notes in `context.unread` what it has to read.

    An engine that is full, or whose circuit is open, is passed over while there is another: traffic alone never
    takes the last engine away.

    Raises:
        EngineUnavailable: none is left.
    """
    model, route = context.model, context.route
    present = [e for e in pool.engines if e.up and not e.draining and e.serves(model) and e not in tried]
    if route is not None and route.only is not None:
        present = [engine for engine in present if route.allows(engine.name)]
    candidates = [e for e in present if e.circuit.allows() and e.has_room()] or present
    if len(candidates) == 1:
        context.unread = 0
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
    unread = send(chosen, affinity.prompt)
    # An answer in one piece does not show when its prompt was read: most of its time is writing.
    context.unread = unread if context.stream else unread // 4
    return chosen
