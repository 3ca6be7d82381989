"""Words before a number that say what it is: `SSN:`, `passport no.`, `born on`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from serving.guard.detectors.boundary import without_escapes
from serving.guard.detectors.neighbours import is_in_name
from serving.guard.detectors.phrases import FILLERS

REACH = 56
"""How far before a value its cue is looked for; less than a detector may count on seeing."""

_WORDS = re.compile(r"[a-z]+")
_DIGIT = re.compile(r"[0-9]")
_CODE = re.compile(r"(?<![A-Za-z])(?:sin|tin|nie?|pan|tax|sort|dl)\s?[=(]\s?\Z")
"""Cues that are names in code as well."""
_MAX_WORDS = 4
_SIGNS = " \t\n\r.,:;?!=#-_/|()[]{}<>\"'`*~>&+\\"


class Cues:
    """A set of phrases of up to four words, compared without case, accents or punctuation."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._phrases = frozenset(" ".join(_WORDS.findall(phrase)) for phrase in phrases)

    def stand_before(self, text: str, begin: int) -> bool:
        """Whether one of them does, with nothing between it and `begin` but signs and words like `number` or `is`."""
        # In lists of numbers this decides: what comes before must end in a letter. The rest costs ten times as much.
        before = text[max(0, begin - 8) : begin]
        if not before.rstrip(_SIGNS)[-1:].isalpha() or _CODE.search(before) is not None or is_in_name(text, begin):
            return False
        return not self._phrases.isdisjoint(_phrases_before(text, begin))


def _phrases_before(text: str, begin: int) -> frozenset[str]:
    """What could be a cue before `begin`. Several detectors ask for the same position."""
    known = _found_in(text)
    phrases = known.get(begin)
    if phrases is None:
        phrases = known[begin] = _find_phrases(text, begin)
    return phrases


@lru_cache(1)
def _found_in(text: str) -> dict[int, frozenset[str]]:
    """Filled by position, as they are asked for."""
    return {}


def _find_phrases(text: str, begin: int) -> frozenset[str]:
    # A cue before another number belongs to that one.
    *numbers, before = _DIGIT.split(without_escapes(text[max(0, begin - REACH) : begin]).lower())
    words = _WORDS.findall(before)
    if numbers and _WORDS.match(before) is not None:
        del words[0]  # the rest of an identifier
    phrases: set[str] = set()
    while words:
        phrases.update(" ".join(words[-size:]) for size in range(1, _MAX_WORDS + 1))
        if words.pop() not in FILLERS:
            break
    return frozenset(phrases)
