"""Where numbers begin, found once for all detectors that look for them.

Each of them would pass over the whole text for its own digits; most texts have few, and one pass finds those.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator

from serving.guard.detectors.boundary import ascii_pattern

# Four digits with at most six characters between two of them, as in the IBAN `GB29 NWBK 6016`.
_START = ascii_pattern(r"\d(?<!\d\d)(?=(?:[^0-9]{0,6}\d){3})")

_last: tuple[str, list[int]] = ("", [])


def numbers(pattern: re.Pattern[str], text: str, start: int) -> Iterator[re.Match[str]]:
    """Matches of a pattern, from `start` on, that begin with the first digit of a number of four digits or more."""
    global _last
    known, starts = _last
    if known is not text:
        starts = [match.start() for match in _START.finditer(text)]
        _last = (text, starts)
    match = pattern.match
    for number in range(bisect_left(starts, start), len(starts)):
        found = match(text, starts[number])
        if found is not None:
            yield found
