"""Words before a number that say what it is: `SSN:`, `passport no.`, `born on`."""

from __future__ import annotations

import re
from collections.abc import Iterable

REACH = 56
"""How far before a value its cue is looked for; less than a detector may count on seeing."""

_NEAR = re.compile(r"[A-Za-z]")
_WORDS = re.compile(r"[a-z]+")
_DIGIT = re.compile(r"[0-9]")
_FILLERS = frozenset({
    "number", "numbers", "no", "nr", "num", "nummer", "numero", "nro", "id", "card", "code", "is", "are", "was", "has",
    "as", "the", "a", "an", "of", "my", "your", "his", "her", "their", "our", "s", "on", "in", "at", "with", "to",
    "be", "date", "e", "und", "and",
})  # fmt: skip
_MAX_WORDS = 4


class Cues:
    """A set of phrases of up to four words, compared without case, accents or punctuation."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._phrases = frozenset(" ".join(_WORDS.findall(phrase)) for phrase in phrases)

    def stand_before(self, text: str, begin: int) -> bool:
        """Whether one of them does, with nothing between it and `begin` but signs and words like `number` or `is`."""
        # In lists of numbers this decides; the rest costs ten times as much.
        if _NEAR.search(text, max(0, begin - 14), begin) is None:
            return False
        # A cue before another number belongs to that one.
        before = _DIGIT.split(text[max(0, begin - REACH) : begin].lower())[-1]
        words = _WORDS.findall(before)
        while words:
            if any(" ".join(words[-size:]) in self._phrases for size in range(1, _MAX_WORDS + 1)):
                return True
            if words.pop() not in _FILLERS:
                return False
        return False
