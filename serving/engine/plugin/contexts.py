"""The contexts of an answer: which one the next token has, and whether the answer had it before."""

from __future__ import annotations

from collections.abc import Sequence

from serving.provenance.schemes import BEFORE_THE_ANSWER


class Contexts:
    """The tokens before each token of one answer.

    A context that occurred earlier in the answer has its draws used up, and using them again drives the answer into
    loops: tokens behind it are left to vLLM's own sampler.
    """

    __slots__ = ("_num_seen", "_seen", "_sent", "_start", "output", "width")

    def __init__(self, output: list[int], width: int, sent: Sequence[int] = ()) -> None:
        """`output` is the engine's own list of the answer's tokens; it grows while the request runs.

        `sent` is what another engine made of the answer before: its contexts are used up too.
        """
        self.output = output
        self.width = width
        before = [*[BEFORE_THE_ANSWER] * width, *sent]
        self._start = before[-width:]
        self._sent = frozenset(tuple(before[place : place + width]) for place in range(len(sent)))
        self._seen = set(self._sent)
        self._num_seen = 0

    def current(self) -> tuple[int, ...]:
        """The tokens before the next one, oldest first."""
        return self._at(len(self.output))

    def unused(self) -> tuple[int, ...] | None:
        """As `current`; None where the answer had these tokens in this order before."""
        position = len(self.output)
        if position < self._num_seen:  # the engine took tokens back
            self._seen = set(self._sent)
            self._num_seen = 0
        for earlier in range(self._num_seen, position):
            self._seen.add(self._at(earlier))
        self._num_seen = position
        context = self._at(position)
        return None if context in self._seen else context

    def _at(self, position: int) -> tuple[int, ...]:
        if position >= self.width:
            return tuple(self.output[position - self.width : position])
        return tuple((self._start + self.output[:position])[-self.width :])
