"""Numbers that a state gives a person: recognised by shape and checksum, or by the words before them.

Without a word before it a number counts only where about one in a hundred random numbers of its shape would pass, or
fewer, and where the weaker of these checks hold it must stand alone. With such a word every number of a fitting length
does: a mistyped one is personal still.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from serving.guard.detector import Span
from serving.guard.detectors import checksums
from serving.guard.detectors.boundary import LEFT, ascii_pattern, undecided_at
from serving.guard.detectors.cue import Cues
from serving.guard.detectors.neighbours import (
    AFTER,
    is_glued,
    is_json_number,
    is_named,
    number_after,
    number_before,
)
from serving.guard.detectors.numbers import numbers
from serving.guard.detectors.phrases import STATE_NUMBERS

_CUES = Cues(STATE_NUMBERS)

# Each without its first digit, where the search stands. Letters before that are looked back at.
_SHAPES: dict[str, str] = {
    "nino": r"(?<=[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d)\d(?: ?\d\d){2} ?[A-D]",
    "nino_apart": r"(?<=[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] \d)\d(?: ?\d\d){2} ?[A-D]",
    "codice": r"(?<=[A-Z]{6}\d)\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]",
    "curp": r"(?<=[A-Z]{4}\d)\d[01]\d[0-3]\d[HM][A-Z]{5}[A-Z0-9]\d",
    "pan": r"(?<=[A-Z]{3}[ABCFGHJLPT][A-Z]\d)\d{3}[A-Z]",
    "nric": r"(?<=[STFGM]\d)\d{6}[A-Z]",
    "nie": r"(?<=[XYZ]\d)\d{6}-?[A-Z]",
    "nie_apart": r"(?<=[XYZ]-\d)\d{6}-?[A-Z]",
    "dni": r"\d{7}-?[A-Z]",
    "resident": r"\d{5}(?:19|20)\d\d[01]\d[0-3]\d{4}[0-9X]",
    "ssn": r"\d\d-\d\d-\d{4}|\d\d \d\d \d{4}",
    "cpf": r"\d\d\.\d{3}\.\d{3}-\d\d",
    "cnpj": r"\d\.\d{3}\.\d{3}/\d{4}-\d\d",
    "ahv": r"(?<=7)56[. ]\d{4}[. ]\d{4}[. ]\d\d",
    "personnummer": r"\d{5}(?:\d\d)?[-+]\d{4}",
    "hetu": r"\d{5}[-+A-F]\d{3}[0-9A-FHJ-NPR-Y]",
    "rrn": r"\d[01]\d[0-3]\d-[1-8]\d{6}",
    "register": r"\d\.\d\d\.\d\d-\d{3}\.\d\d",
    "nir": r"(?<=[12]) ?\d\d ?[0-3]\d ?\d[0-9AB] ?\d{3} ?\d{3} ?\d\d",
    "plain": r"\d{10}",
    "cued": r"(?:\d{1,5}(?:[ .-]\d{2,5}){1,4}|\d{6,13})(?:[ -]?[A-Z]{1,2})?",
}
_END = r"(?![A-Za-z0-9_])(?![.,-]\d)"
_FIRST = r"\d(?<!\d\d)(?<!\d[.,-]\d)"
_CANDIDATE = ascii_pattern(
    rf"{_FIRST}(?:" + "|".join(f"(?P<{name}>(?:{shape}){_END})" for name, shape in _SHAPES.items()) + ")"
)
_CUED = ascii_pattern(rf"{_FIRST}(?:{_SHAPES['cued']}){_END}")
_LEADING = {"nino": 2, "codice": 6, "curp": 4, "pan": 5, "nric": 1, "nie": 1, "nie_apart": 2}
"""How many characters before the first digit belong to the value. Letters set apart do not: they may be a word."""

_WEAK = frozenset(
    (
        "nino",
        "nino_apart",
        "pan",
        "nric",
        "nie",
        "nie_apart",
        "dni",
        "resident",
        "ssn",
        "personnummer",
        "rrn",
        "plain",
        "nir",
    )
)
"""Checks that one in a hundred random numbers of that shape passes, or more."""

_CODE_BEFORE = ascii_pattern(r"\d[^\s,;:]{0,12}[ \t]{1,3}\Z")
_CODE_AFTER = ascii_pattern(r"[ \t]{1,3}[^\s\d]{0,12}\d")
_SIGNS = re.compile(r"[ ./+-]")
_START = re.compile(LEFT)
_UNDECIDED = ascii_pattern(
    rf"{LEFT}(?=[A-Z0-9])(?:[A-Z]{{0,6}}\d[0-9A-Z]*+|[A-Z]{{1,6}}(?>(?:-(?:\d[0-9A-Z]*+)?)?))"
    r"(?>(?:[ ./+,-][0-9A-Z]++)*)[ ./+,-]?\Z"
)
_MAX_UNDECIDED = 64
"""Longer than a candidate and what must follow it."""


class NationalIds:
    """Candidates of every shape in one pass, then the checksum of that shape or a cue."""

    entity = "NATIONAL_ID"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        settled = len(text) if final else undecided_at(_UNDECIDED, text, start, _MAX_UNDECIDED)
        for candidate in numbers(_CANDIDATE, text, start):
            if candidate.start() >= settled:
                break
            if candidate.start() < start:
                continue
            span = _national_id(text, candidate)
            if span is None or not start <= span.start < settled:
                continue
            if not final and len(text) - span.end < AFTER:
                return spans, span.start
            spans.append(span)
            start = span.end
        return spans, max(settled, start if spans else 0)


def _national_id(text: str, candidate: re.Match[str]) -> Span | None:
    name = candidate.lastgroup
    assert name is not None
    begin = max(0, candidate.start() - _LEADING.get(name, 0))
    if name != "cued" and _START.match(text, begin) is not None:
        compact = _SIGNS.sub("", text[begin : candidate.end()])
        if _CHECKS[name](compact) and _is_alone(text, begin, candidate.end(), name):
            return Span(begin, candidate.end())
    begin = candidate.start()
    cued = candidate if name == "cued" else _CUED.match(text, begin)
    if cued is None or _START.match(text, begin) is None or not _CUES.stand_before(text, begin):
        return None
    return Span(begin, cued.end()) if sum(map(str.isdigit, cued.group())) >= 7 else None


def _is_alone(text: str, begin: int, end: int, name: str) -> bool:
    if is_glued(text, begin, end):
        return False
    if name not in _WEAK:
        return True
    if is_named(text, begin):
        return False
    digits = _SIGNS.sub("", text[begin:end])
    if not digits.isdigit():
        return _CODE_AFTER.match(text, end) is None and _CODE_BEFORE.search(text, max(0, begin - 24), begin) is None
    if "-" in text[begin:end]:
        return True
    plain = len(digits) == end - begin
    if plain and is_json_number(text, begin):
        return False
    return not (number_before(text, begin, lines=plain) or number_after(text, end, lines=plain))


def _is_date(digits: str) -> bool:
    """Whether a number can begin with a day: year, month, day."""
    return 1 <= int(digits[2:4]) <= 12 and 1 <= int(digits[4:6]) <= 31


def _is_day_first(digits: str) -> bool:
    return 1 <= int(digits[:2]) <= 31 and 1 <= int(digits[2:4]) <= 12


def _nino(text: str) -> bool:
    return text[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def _ssn(digits: str) -> bool:
    """Never given: area 000, 666 and 9xx, group 00, serial 0000. With 9xx and some groups it is an ITIN."""
    area, group, serial = digits[:3], int(digits[3:5]), digits[5:]
    if serial == "0000" or area in ("000", "666"):
        return False
    return group in range(50, 100) if area[0] == "9" else group > 0


def _plain(digits: str) -> bool:
    if _is_day_first(digits) and checksums.birth_number(digits):
        return True
    return _is_date(digits) and checksums.national_register(digits)


_CHECKS: dict[str, Callable[[str], bool]] = {
    "nino": _nino,
    "nino_apart": lambda text: True,
    "codice": checksums.codice_fiscale,
    "curp": lambda text: True,
    "pan": lambda text: True,
    "nric": checksums.nric,
    "nie": checksums.dni,
    "nie_apart": checksums.dni,
    "dni": checksums.dni,
    "resident": checksums.resident_id,
    "ssn": _ssn,
    "cpf": checksums.cpf,
    "cnpj": checksums.cnpj,
    "ahv": checksums.ean,
    "personnummer": lambda digits: _is_date(digits[-10:]) and checksums.luhn(digits[-10:]),
    "hetu": lambda text: _is_day_first(text) and checksums.hetu(text),
    "rrn": _is_date,
    "register": checksums.national_register,
    "nir": checksums.nir,
    "plain": _plain,
}
