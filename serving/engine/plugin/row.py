"""One marked request's place in the batch: its key, what it has written so far, and whether to mark the next token."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.provenance.schemes import BEFORE_THE_ANSWER
from serving.provenance.schemes.gumbel import CONTEXT_WIDTH

_PADDING = [BEFORE_THE_ANSWER] * CONTEXT_WIDTH


class MarkedRow:
    """A marked request.

    Two kinds of tokens are left to vLLM's own sampler, so that a mark stays invisible in the text:
    - a context that occurred earlier in the answer: its draws are used up, and using them again drives
      the answer into loops;
    - the opening, until the tokens drawn could have differed enough: the keyed draws depend on nothing but key and
      context, so without it `n` answers to one question, or one question asked twice, would read the same.
    """

    __slots__ = (
        "_drawn_nats",
        "_num_seen",
        "_opening_nats",
        "_seen",
        "_sent",
        "_start",
        "key",
        "output",
        "top_k",
        "top_p",
    )

    def __init__(
        self,
        seed: int,
        output: list[int],
        top_k: int,
        top_p: float,
        opening_nats: float,
        sent: Sequence[int] = (),
    ) -> None:
        """`output` is the engine's own list of the answer's tokens; it grows while the request runs.

        `sent` is what another engine made of the answer before: its contexts are used up too.
        """
        self.key: NDArray[np.uint32] = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
        self.output = output
        self.top_k = top_k
        self.top_p = top_p
        self._num_seen = 0
        # A request that comes back after preemption has its tokens and lost this record: its opening is over.
        # So is that of an answer begun elsewhere.
        self._opening_nats = 0.0 if output or sent else opening_nats
        self._drawn_nats: list[float] = []
        before = [*_PADDING, *sent]
        self._start = before[-CONTEXT_WIDTH:]
        self._sent = frozenset(tuple(before[place : place + CONTEXT_WIDTH]) for place in range(len(sent)))
        self._seen = set(self._sent)

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
        """The four tokens before the next one, None where the answer had them in this order before."""
        position = len(self.output)
        if position < self._num_seen:  # the engine took tokens back
            self._seen = set(self._sent)
            self._num_seen = 0
        for earlier in range(self._num_seen, position):
            self._seen.add(self._context(earlier))
        self._num_seen = position
        context = self._context(position)
        return None if context in self._seen else np.array(context, np.int64).astype(np.uint32)

    def _context(self, position: int) -> tuple[int, ...]:
        if position >= CONTEXT_WIDTH:
            return tuple(self.output[position - CONTEXT_WIDTH : position])
        return tuple((self._start + self.output[:position])[-CONTEXT_WIDTH:])
