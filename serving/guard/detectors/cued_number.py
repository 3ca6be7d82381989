"""Numbers without a shape of their own, which the words before them give away: `passport no. X1234567`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from serving.guard.detector import Span
from serving.guard.detectors.boundary import LEFT, ascii_pattern, undecided_at
from serving.guard.detectors.cue import Cues
from serving.guard.detectors.numbers import announced_numbers

# Found at its first digit. Not a number in a list, not a decimal: there the words before belong to something else.
_CANDIDATE = ascii_pattern(r"\d(?<!\d\d)(?<!\d[ .,:/-]\d)(?=(?:[A-Za-z -]{0,2}\d){4})")
_HEAD = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-"
_MAX_HEAD = 8
_START = re.compile(LEFT)
_VALUE = ascii_pattern(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){4,23}(?: \d{3,6}(?![A-Za-z])){0,4}(?![A-Za-z0-9_-])(?![.,:/]\d)")
_UNDECIDED = ascii_pattern(
    rf"{LEFT}(?:[A-Za-z-]{{1,8}}|[A-Za-z-]{{0,8}}\d(?<![A-Za-z-]{{9}}\d)(?>(?:-?[A-Za-z0-9])*)(?>(?: \d+)*)[ .,:/-]?)\Z"
)
_DATE = ascii_pattern(r"(?:19|20)\d\d-\d\d?-\d\d?(?!\d)|\d{1,2}-\d{1,2}-(?:\d\d){1,2}(?!\d)")
_HEX = ascii_pattern(r"(?=[0-9]*[a-f])[0-9a-f]{8,}")
"""A digest or an identifier of a machine."""
_MAX_UNDECIDED = 88
"""Longer than the longest value and what must follow it."""


class CuedNumbers:
    """Letters and digits, five and more, of them four digits, after one of some cues."""

    skips_plain_words = True

    def __init__(self, entity: str, cues: Sequence[str]) -> None:
        self.entity = entity
        self._cues = Cues(cues)

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        settled = len(text) if final else undecided_at(_UNDECIDED, text, start, _MAX_UNDECIDED)
        for candidate in announced_numbers(_CANDIDATE, text, start):
            begin = _head(text, candidate.start())
            if begin >= settled:
                break
            if begin < start or _START.match(text, begin) is None or not self._cues.stand_before(text, begin):
                continue
            value = _VALUE.match(text, begin)
            if value is None or _DATE.match(text, begin) is not None or _HEX.fullmatch(value.group()) is not None:
                continue
            spans.append(Span(begin, value.end()))
            start = value.end()
        return spans, max(settled, start if spans else 0)


def _head(text: str, digit: int) -> int:
    """Where the letters before the first digit begin that touch it."""
    least = max(0, digit - _MAX_HEAD)
    return least + len(text[least:digit].rstrip(_HEAD))
