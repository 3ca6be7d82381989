"""One pass of RE2 over a text: where a value may begin, hundreds of shapes in the time of one.

RE2 knows no look-around, so a sieve's shapes are wider than those of the detectors, whose own patterns decide at the
few positions that are left. What a sieve lets through costs time; what it loses would be a value that nobody masks.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import re2

ESCAPE = r"\\[nrtbf]|\\u[0-9A-Fa-f]{4}"
"""A JSON escape: the letters before a value are its own."""
LEFT = rf"(?:\b|{ESCAPE})"
"""`boundary.LEFT` before a letter or a digit."""
OPEN = rf"(?:^|\W|{ESCAPE})"
"""`boundary.LEFT` before a sign, and the character before that."""

MAX_ESCAPE = len(r"\u0000")
_ESCAPE = re.compile(ESCAPE)

_OPTIONS = re2.Options()
_OPTIONS.encoding = re2.Options.Encoding.LATIN1
_OPTIONS.never_capture = True


class Sieve:
    """Shapes of which RE2 finds the leftmost. A character beyond ASCII is a `?` in them."""

    def __init__(self, *shapes: str) -> None:
        self._pattern = re2.compile("|".join(shapes).encode(), _OPTIONS)
        # Several detectors ask for those of one text.
        self.positions: Callable[[str], list[int]] = lru_cache(1)(self._positions)
        """Every position of a text where one of the shapes begins."""

    def find(self, data: bytes, start: int) -> int:
        """Where the first of the shapes begins at `start` of `one_byte_each` or later; -1 when none does."""
        match = self._pattern.search(data, start)
        return -1 if match is None else int(match.start())

    def _positions(self, text: str) -> list[int]:
        positions = []
        data = one_byte_each(text)
        position = self.find(data, 0)
        while position >= 0:
            positions.append(position)
            position = self.find(data, position + 1)
        return positions


def positions_from(positions: Sequence[int], start: int) -> Iterable[int]:
    """Those of rising positions that are not before `start`."""
    # Of most texts, and of nearly all pieces of a stream, there are none.
    return _from(positions, bisect_left(positions, start)) if positions and positions[-1] >= start else ()


def _from(positions: Sequence[int], first: int) -> Iterator[int]:
    for number in range(first, len(positions)):
        yield positions[number]


def matches(pattern: re.Pattern[str], text: str, positions: Sequence[int], start: int) -> Iterable[re.Match[str]]:
    """Matches of a detector's own pattern that begin at one of the positions, from `start` on."""
    return _matches(pattern, text, positions, start) if positions and positions[-1] >= start else ()


def _matches(pattern: re.Pattern[str], text: str, positions: Sequence[int], start: int) -> Iterator[re.Match[str]]:
    for position in positions_from(positions, start):
        match = pattern.match(text, position)
        if match is not None:
            yield match


def after_escape(text: str, position: int) -> int:
    """Where a value begins whose shape begins at `position`, maybe with the escape before it."""
    escape = _ESCAPE.match(text, position)
    return position if escape is None else escape.end()


@lru_cache(1)
def one_byte_each(text: str) -> bytes:
    """A byte for each character, for sieves to look at.

    Several of them look at one text in turn. Who looks at other texts in between keeps the bytes.
    """
    return text.encode("ascii", "replace")
