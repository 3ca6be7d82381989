"""Which texts are dropped: too short, too long, made of signs, repeating themselves, or evaluated on.

The rules of quality are after those of Gopher (Rae et al. 2021, appendix A): cheap, and each drop can be explained.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from training.data.words import Hashes, runs, words_of
from training.recipes.data import QualitySettings

_SIGN = re.compile(r"[^\w\s]|_")
_RUN = 5


def fault_of(text: str, settings: QualitySettings) -> str | None:
    """Why a text is dropped; None where it is kept."""
    size = len(text)
    if size < settings.min_characters or not text.strip():
        return "too short"
    if settings.max_characters is not None and size > settings.max_characters:
        return "too long"
    if settings.max_symbols < 1 and len(_SIGN.findall(text)) > settings.max_symbols * size:
        return "mostly symbols"
    if settings.max_repetition < 1 and repetition(text) > settings.max_repetition:
        return "repeats itself"
    return None


def repetition(text: str) -> float:
    """Part of a text that came before in it, by lines or by runs of five words, whichever is more."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    again = 0.0
    if len(lines) > 1:
        again = 1 - sum(map(len, dict.fromkeys(lines))) / sum(map(len, lines))
    words = words_of(text)
    if len(words) >= 2 * _RUN:
        every = len(words) - _RUN + 1
        different = len({*zip(*(words[start:] for start in range(_RUN)), strict=False)})
        again = max(again, 1 - different / every)
    return again


class Evaluations:
    """The runs of words of what is evaluated on."""

    def __init__(self, texts: Iterable[str], length: int) -> None:
        self._length = length
        self._lengths: list[int] = []
        by_length: dict[int, list[Hashes]] = {}
        for text in texts:
            words = len(words_of(text))
            if words:
                by_length.setdefault(min(words, length), []).append(runs(text, length))
        # A shorter text is looked for as a whole, wherever it stands.
        self._runs = {size: np.unique(np.concatenate(hashes)) for size, hashes in sorted(by_length.items())}

    def share_with(self, text: str) -> bool:
        """Whether a text holds any of them. One word or two say nothing unless they are all of it."""
        size = len(words_of(text))
        for length, known in self._runs.items():
            if length > size or (length < 3 and length < size):
                continue
            if np.isin(runs(text, length), known, assume_unique=True).any():
                return True
        return False
