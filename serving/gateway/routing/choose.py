"""Which engine answers: among those up that serve the model, the one with the fewest answers in flight."""

from __future__ import annotations

from collections.abc import Collection

from serving.gateway.engines.pool import Engine, EnginePool
from serving.gateway.errors import EngineUnavailable, ModelNotFound

_RETRY_AFTER = ((b"retry-after", b"2"),)


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
        raise EngineUnavailable("No engine is ready yet. Try again shortly.", headers=_RETRY_AFTER)
    raise ModelNotFound(f"The model {model[:200]!r} does not exist. Served here: {', '.join(known)}.", param="model")


def choose_engine(pool: EnginePool, model: str, tried: Collection[Engine] = ()) -> Engine:
    """The least loaded engine that can answer and was not tried before.

    Raises:
        EngineUnavailable: none is left.
    """
    candidates = [e for e in pool.engines if e.up and e.serves(model) and e not in tried]
    if not candidates:
        raise EngineUnavailable(
            f"No engine for {model!r} can be reached just now. Try again shortly.", headers=_RETRY_AFTER
        )
    return min(candidates, key=lambda engine: engine.in_flight)
