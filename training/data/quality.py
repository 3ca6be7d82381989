"""Which texts are too short, too long, made of signs, or repeat themselves.

After the rules of Gopher (Rae et al. 2021, appendix A): cheap, and each drop can be explained.
"""

from __future__ import annotations

import re

from training.data.words import words_of
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
