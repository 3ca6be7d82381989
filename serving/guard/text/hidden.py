"""Words that were written past every filter: characters that no reader sees between their letters, word after word.

Taking such characters out makes a text plain again, for detectors and for the model alike: an attack that a small model
could not read in pieces would be spelled out to it. Nobody writes so by accident, so what was to be hidden is masked.
Not meant are soft hyphens, single breaks in long names, and scripts whose letters need joiners.
"""

from __future__ import annotations

import re

ENTITY = "HIDDEN_TEXT"

_LETTERS = "A-Za-z\u00c0-\u024f\u0370-\u052f"
_UNSEEN = (
    "\u034f\u115f\u1160\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
)
_UNSEEN_SIGN = re.compile(f"[{_UNSEEN}]")
_WORD = re.compile(f"[{_LETTERS}]+(?>(?:[{_UNSEEN}]+[{_LETTERS}]+)*)")
_MAX_PIECE = 3
"""Letters of the longest piece of a word that counts: names that break lines have longer ones."""
_MIN_WORDS = 5
_MAX_BETWEEN = 2
"""Whole words between two that are in pieces."""


def mask_hidden(text: str) -> tuple[str, int]:
    """`text` with each run of such words masked, and how many runs there were."""
    if text.isascii() or _UNSEEN_SIGN.search(text) is None:
        return text, 0
    runs = _runs(text)
    pieces: list[str] = []
    done = 0
    for start, end in runs:
        pieces += (text[done:start], f"[{ENTITY}]")
        done = end
    return "".join(pieces) + text[done:], len(runs)


def _runs(text: str) -> list[tuple[int, int]]:
    """Where at least so many words in pieces follow one another, nearly without whole ones between."""
    runs: list[tuple[int, int]] = []
    start = end = count = between = 0
    for word in _WORD.finditer(text):
        if not _is_in_pieces(word.group()):
            between += 1
            continue
        if between > _MAX_BETWEEN or not count:
            if count >= _MIN_WORDS:
                runs.append((start, end))
            start, count = word.start(), 0
        end, count, between = word.end(), count + 1, 0
    return [*runs, (start, end)] if count >= _MIN_WORDS else runs


def _is_in_pieces(word: str) -> bool:
    pieces = _UNSEEN_SIGN.split(word)
    return len(pieces) > 1 and max(map(len, pieces)) <= _MAX_PIECE
