"""International bank account numbers: a country's length and form, and the remainder modulo 97.

However they are written: in groups of any size, in small letters, with dashes, dots or more than one space.
"""

from __future__ import annotations

import re
from functools import cache

from serving.guard.detector import Span
from serving.guard.detectors import checksums
from serving.guard.detectors.boundary import LEFT, ascii_pattern
from serving.guard.detectors.iban_forms import FORMS
from serving.guard.detectors.numbers import numbers

_GAP = r"[ \t./-]{0,3}"
# Found at the two check digits, which prose holds few of; the country's letters stand before them.
_CANDIDATE = ascii_pattern(
    rf"\d(?<!\d\d)(?:(?<=[A-Za-z]\d)|(?<=[A-Za-z][ .-]\d)|(?<=[A-Za-z][ .-]{{2}}\d)){_GAP}\d(?:{_GAP}[A-Za-z0-9]){{11}}"
)
_COUNTRY = ascii_pattern(rf"{LEFT}([A-Za-z]) ?([A-Za-z])[ .-]{{0,2}}\Z")
_CHAR = ascii_pattern(rf"{_GAP}([A-Za-z0-9])")
_MORE = ascii_pattern(r"[A-Za-z0-9_]")
_BEGUN = ascii_pattern(rf"{LEFT}[A-Za-z] ?[A-Za-z][ .-]{{0,2}}(?P<digits>\d)")
_OPENING = ascii_pattern(rf"{LEFT}[A-Za-z]{{1,2}}\Z")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_GAP_TO_END = ascii_pattern(rf"{_GAP}\Z")
_MAX_UNDECIDED = 136
"""Longer than the longest number with gaps of three signs."""


@cache
def _forms() -> dict[str, re.Pattern[str]]:
    """What stands behind the letters of each country. Most positions need no more than a look."""
    chars = {"n": "[0-9]", "a": "[A-Za-z]", "c": "[A-Za-z0-9]"}
    return {country: re.compile("".join(_GAP + chars[kind] for kind in form)) for country, form in FORMS.items()}


class Ibans:
    """Candidates by their beginning, then length, form and checksum."""

    entity = "IBAN"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        settled = len(text) if final else _undecided_at(text, start)
        position = start
        for candidate in numbers(_CANDIDATE, text, start):
            begin = _begin(text, candidate.start())
            if begin >= settled:
                break
            if begin < position:
                continue
            end = _iban_end(text, candidate.start())
            if end > 0:
                spans.append(Span(begin, end))
                position = end
        return spans, max(settled, position if spans else 0)


def _undecided_at(text: str, start: int) -> int:
    """Where a number may have begun whose end is not known."""
    # The country's letters may have been passed already, as a word.
    for begun in _BEGUN.finditer(text, max(0, start - 5, len(text) - _MAX_UNDECIDED)):
        digits = begun.start("digits")
        if digits >= start and _iban_end(text, digits) in (-1, len(text)):
            return max(start, _begin(text, digits))
    opening = _OPENING.search(text, max(start, len(text) - 2))
    return len(text) if opening is None else opening.start()


def _begin(text: str, digits: int) -> int:
    """Where the mask begins: with the country's letters, unless they stand apart and may be a word."""
    before = text[max(0, digits - 2) : digits]
    return digits - len(before) + len(before.rstrip(_ALPHABET))


def _iban_end(text: str, digits: int) -> int:
    """The end of the number whose check digits begin there: 0 when there is none, -1 when it may yet become one."""
    country = _COUNTRY.search(text, max(0, digits - 6), digits)
    form = None if country is None else FORMS.get((country[1] + country[2]).upper())
    if country is None or form is None:
        return 0
    number, end = (country[1] + country[2]).upper(), digits
    if len(text) - digits > _MAX_UNDECIDED and _forms()[number].match(text, digits) is None:
        return 0
    for kind in form:
        char = _CHAR.match(text, end)
        if char is None:
            return -1 if _GAP_TO_END.match(text, end) is not None else 0
        if not (kind == "c" or (char[1].isdigit() == (kind == "n"))):
            return 0
        number += char[1].upper()
        end = char.end()
    return end if _MORE.match(text, end) is None and checksums.iban(number) else 0
