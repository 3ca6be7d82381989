"""The one interface of detectors, whole texts and streams alike.

A detector is a pure function of the text. What lets it work on a stream is that it also says how far its findings
are settled: up to which place no later text can add, move or remove a value of its own. The cleaner does the rest
(holding back, merging overlaps, replacing), so that every cutting of a text gives the same result as the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

CONTEXT = 96
"""Characters before `start` that a detector may count on seeing, unless the text begins later."""

Rest = Callable[[str, int, bool], tuple[int, bool]]
"""`(text, end, final)` to `(end, open)`: how far a value goes on after `end`, and whether more could follow still."""


class Span(NamedTuple):
    """A value at `text[start:end]`. With `rest`, it reaches the end of what is known and may go on."""

    start: int
    end: int
    rest: Rest | None = None


class Detector(Protocol):
    """Finds the values of one entity."""

    @property
    def entity(self) -> str:
        """What replaces a value, in brackets: `EMAIL_ADDRESS`."""

    @property
    def skips_plain_words(self) -> bool:
        """True when no value holds a word of at most 15 ASCII letters that stands alone, between spaces or the like.

        The cleaner then lets ordinary words through without asking.
        """

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        """Values that begin at `start` or later, in order, and the place up to which that is settled.

        `text` is visible and folded (see `folding`). The contract, which `tests/serving/guard` checks for every
        detector: with `spans, settled = scan(text, start, False)`, for whatever text is added,

        - the values that begin before `settled` are exactly `spans`; they overlap neither each other nor `settled`;
        - only the last may have a `rest`, and then reaches `settled`;
        - `len(text) - settled` is bounded; with `final`, `settled == len(text)`;
        - only the text from `start - CONTEXT` on matters.
        """
