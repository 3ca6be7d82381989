"""Seeded requests on the CPU, whose generators vLLM 0.32 moves back as only a GPU's can be.

A prompt that is read in several steps, because it is long or others are read beside it, is sampled from after each of
them; all but the last draw are discarded. vLLM then sets the offset of the request's generator back. A CPU generator
has none: the call raises, and the engine ends with everybody's answers. Here its state is kept from before the draw.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np

_SAMPLE, _BOOK = "_sample", "_bookkeeping_sync"
# On our function: `__wrapped__` is on any that is decorated, such as by torch.inference_mode.
_REWINDS = "signet_rewinds_cpu_generators"


def rewind_cpu_generators(runner: type) -> None:
    """Change vLLM's model runner class, once; requests on a GPU are left to vLLM."""
    sample, book = getattr(runner, _SAMPLE), getattr(runner, _BOOK)
    if hasattr(sample, _REWINDS):
        return

    @wraps(sample)
    def sample_and_rewind(self: Any, *arguments: Any, **named: Any) -> Any:
        states = [(generator, generator.get_state()) for generator in _discarded(self).values()]
        drawn = sample(self, *arguments, **named)
        for generator, state in states:
            generator.set_state(state)
        return drawn

    @wraps(book)
    def book_without_rewinding(self: Any, *arguments: Any, **named: Any) -> Any:
        discarded = _discarded(self)
        generators = self.input_batch.generators
        for row in discarded:
            del generators[row]
        try:
            return book(self, *arguments, **named)
        finally:
            generators.update(discarded)

    setattr(sample_and_rewind, _REWINDS, True)
    setattr(runner, _SAMPLE, sample_and_rewind)
    setattr(runner, _BOOK, book_without_rewinding)


def _discarded(runner: Any) -> dict[int, Any]:
    """Generators by the row of their request, of those whose draw of this step does not count."""
    batch = runner.input_batch
    if not batch.generators:
        return {}
    rows = np.flatnonzero(runner.discard_request_mask.np[: batch.num_reqs]).tolist()
    generators = ((row, batch.generators.get(row)) for row in rows)
    return {row: generator for row, generator in generators if generator is not None and generator.device.type == "cpu"}
