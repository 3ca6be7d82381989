"""Which engine answers: among those up that serve the model, the one with the fewest answers in flight."""

from __future__ import annotations

from collections.abc import Collection

from serving.gateway.context import RequestContext
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.pool import EnginePool
from serving.gateway.errors import EngineUnavailable, ModelNotFound

RETRY_AFTER = ((b"retry-after", b"2"),)


def check_model(pool: EnginePool, model: str) -> None:
    """Refuse a model that no engine serves.

    Raises:
        ModelNotFound: engines are known and none has it.
        EngineUnavailable: no engine has been seen yet, so nothing can be said.
    """
    if any(engine.serves(model) for engine in pool.engines):
        return
    known = sorted(pool.model_cards())
    if not known:
        raise EngineUnavailable("No engine is ready yet. Try again shortly.", headers=RETRY_AFTER)
    raise ModelNotFound(f"The model {model[:200]!r} does not exist. Served here: {', '.join(known)}.", param="model")


def choose_engine(pool: EnginePool, context: RequestContext, tried: Collection[Engine] = ()) -> Engine:
    """The least loaded engine that can answer and was not tried before.

    An open circuit or a full engine is passed over while there is another; traffic alone never takes the last
    engine away.

    Raises:
        EngineUnavailable: none is left.
    """
    model = context.model
    present = [e for e in pool.engines if e.up and not e.draining and e.serves(model) and e not in tried]
    candidates = [e for e in present if e.circuit.allows() and e.has_room()] or present
    if not candidates:
        raise EngineUnavailable(
            f"No engine for {model!r} can be reached just now. Try again shortly.", headers=RETRY_AFTER
        )
    return min(candidates, key=lambda engine: engine.load)
