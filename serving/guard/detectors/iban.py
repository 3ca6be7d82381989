"""International bank account numbers: a country's length, and the remainder modulo 97."""

from __future__ import annotations

import re

from serving.guard.detector import Span
from serving.guard.detectors import checksums
from serving.guard.detectors.boundary import LEFT, ascii_pattern
from serving.guard.detectors.numbers import numbers

_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip
"""Characters with the country's two letters, from SWIFT's registry."""

# Found at the two check digits, which prose holds few of; the country's letters stand before them.
_CANDIDATE = ascii_pattern(r"\d(?<!\d\d)(?<=[A-Z]{2}\d)\d(?:[ -]?[A-Z0-9]){11}")
_START = re.compile(LEFT)
_CHAR = ascii_pattern(r"[A-Z0-9]")
_MORE = ascii_pattern(r"[A-Za-z0-9_]")
_BODY = ascii_pattern(r"(?:[ -]?[A-Z0-9]){2,30}")
_UNDECIDED = ascii_pattern(rf"{LEFT}[A-Z]{{1,2}}(?<![A-Z]{{3}})(?:\d(?:\d(?:[ -]?[A-Z0-9]){{0,30}}[ -]?)?)?\Z")
_MAX_UNDECIDED = 80
"""Longer than the longest number in groups."""


class Ibans:
    """Candidates by their beginning, then length and checksum."""

    entity = "IBAN"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        settled = len(text) if final else _undecided_at(text, start)
        place = start
        for candidate in numbers(_CANDIDATE, text, start):
            begin = candidate.start() - 2
            if begin >= settled:
                break
            if begin < place:
                continue
            end = _iban_end(text, begin)
            if end:
                spans.append(Span(begin, end))
                place = end
        return spans, max(settled, place if spans else 0)


def _undecided_at(text: str, start: int) -> int:
    undecided = _UNDECIDED.search(text, max(start, len(text) - _MAX_UNDECIDED))
    return len(text) if undecided is None else undecided.start()


def _iban_end(text: str, begin: int) -> int:
    """The end of the number that begins at `begin`, 0 when there is none."""
    length = _LENGTHS.get(text[begin : begin + 2])
    body = _BODY.match(text, begin + 2)
    if length is None or body is None or _START.match(text, begin) is None:
        return 0
    chars = list(_CHAR.finditer(body.group()))
    if len(chars) < length - 2:
        return 0
    end = begin + 2 + chars[length - 3].end()
    if _MORE.match(text, end) is not None:
        return 0
    number = text[begin : begin + 2] + "".join(char.group() for char in chars[: length - 2])
    return end if checksums.iban(number) else 0
