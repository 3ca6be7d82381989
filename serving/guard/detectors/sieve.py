"""One pass of RE2 over a text: where a value may begin, hundreds of shapes in the time of one.

RE2 knows no look-around, so a sieve's shapes are wider than those of the detectors, whose own patterns decide at the
few places that are left. What a sieve lets through costs time; what it loses would be a value that nobody masks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

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

_last: tuple[str, bytes] = ("", b"")


class Sieve:
    """Shapes of which RE2 finds the leftmost. A character beyond ASCII is a `?` in them."""

    def __init__(self, *shapes: str) -> None:
        self._pattern = re2.compile("|".join(shapes).encode(), _OPTIONS)
        self._last: tuple[str, list[int]] = ("", [])

    def find(self, text: str, start: int) -> int:
        """Where the first of the shapes begins at `start` or later; -1 when none does."""
        found = self._pattern.search(_ascii(text), start)
        return -1 if found is None else int(found.start())

    def places(self, text: str) -> list[int]:
        """Every place where one of the shapes begins. Several detectors ask for those of one text."""
        known, places = self._last
        if known is not text:
            places = list(self._find_all(text))
            self._last = (text, places)
        return places

    def _find_all(self, text: str) -> Iterator[int]:
        place = self.find(text, 0)
        while place >= 0:
            yield place
            place = self.find(text, place + 1)


def after_escape(text: str, place: int) -> int:
    """Where a value begins whose shape begins at `place`, maybe with the escape before it."""
    escape = _ESCAPE.match(text, place)
    return place if escape is None else escape.end()


def _ascii(text: str) -> bytes:
    """A byte for each character; the same for all sieves that look at one text."""
    global _last
    known, data = _last
    if known is not text:
        data = text.encode("ascii", "replace")
        _last = (text, data)
    return data
