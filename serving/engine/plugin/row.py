"""One marked request's place in the batch: its key, what it has written so far, and whether to mark the next token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from serving.engine.plugin.contexts import Contexts
from serving.engine.plugin.words import context_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from serving.engine.plugin.draws import Draw  # compiles when it is imported


class MarkedRow:
    """A request whose tokens a key draws in place of chance.

    Two kinds of tokens are left to vLLM's own sampler, so that a mark stays invisible in the text:
    - those behind a context that occurred earlier in the answer, see `Contexts`;
    - the opening, until the tokens drawn could have differed enough: the keyed draws depend on nothing but key and
      context, so without it `n` answers to one question, or one question asked twice, would read the same.
    """

    __slots__ = ("_drawn_nats", "_opening_nats", "contexts", "draw", "output", "top_k", "top_p")

    def __init__(
        self,
        draw: Draw,
        output: list[int],
        top_k: int,
        top_p: float,
        opening_nats: float,
        sent: Sequence[int] = (),
    ) -> None:
        """`output` and `sent`: see `Contexts`."""
        self.draw = draw
        self.output = output
        self.contexts = Contexts(output, draw.context_width, sent)
        self.top_k = top_k
        self.top_p = top_p
        # A request that comes back after preemption has its tokens and lost this record: its opening is over.
        # So is that of an answer begun elsewhere.
        self._opening_nats = 0.0 if output or sent else opening_nats
        self._drawn_nats: list[float] = []

    def in_opening(self) -> bool:
        """Whether the next token belongs to the opening."""
        if self._opening_nats > 0 and math.fsum(self._drawn_nats[: len(self.output)]) >= self._opening_nats:
            self._opening_nats = 0.0
        return self._opening_nats > 0

    def note_opening(self, nats: float) -> None:
        """Count the next token's collision entropy; a step that is computed again replaces what it said before."""
        position = len(self.output)
        self._drawn_nats[position:] = [nats]

    def next_context(self) -> NDArray[np.uint32] | None:
        """The tokens before the next one, None where the answer had them in this order before."""
        context = self.contexts.unused()
        return None if context is None else context_words(context)
