"""Payment card numbers: by their issuer's range and length, grouped as that issuer does, with Luhn's checksum.

Of random rows of numbers one in forty is like that, so a number that no word like `card` announces and no date of
expiry follows must stand alone in its row. After such a word issuer and grouping do not matter.
"""

from __future__ import annotations

import re

from serving.guard.detector import CONTEXT, Span
from serving.guard.detectors.boundary import LEFT, ascii_pattern, undecided_at
from serving.guard.detectors.checksums import luhn
from serving.guard.detectors.cue import Cues
from serving.guard.detectors.neighbours import (
    AFTER,
    BEFORE,
    GOODS,
    is_glued,
    is_json_number,
    is_named,
    number_after,
    number_before,
)
from serving.guard.detectors.numbers import numbers
from serving.guard.detectors.phrases import CARDS

_GROUP = ascii_pattern(r"\d+")
# Plain digits are not the fraction or whole part of a decimal, not a piece of a hexadecimal string.
_PLAIN = ascii_pattern(rf"{LEFT}(?<!\d\.)\d{{12,19}}(?!\d)(?!\.\d)(?![0-9A-Fa-f]{{1,8}}+(?![G-Zg-z]))")
_SEP = r"[ ._/-]{1,3}"
_GROUPED = ascii_pattern(
    rf"{LEFT}(?<!\d\.)(?P<first>\d{{4}})(?P<sep>{_SEP})(?:\d{{4}}(?P=sep)\d{{4}}(?P=sep)\d{{4}}(?:(?P=sep)\d{{3}})?"
    r"|\d{6}(?P=sep)\d{4,5}|\d{4}(?P=sep)\d{4}(?P=sep)\d{2,3})(?!\d)"
)
_GROUPS = ascii_pattern(rf"{LEFT}(?<!\d\.)\d{{1,8}}(?>(?:{_SEP}\d{{1,8}}(?!\d)){{1,18}})")
# Any other even grouping must be the whole run of digits.
_EVEN = ascii_pattern(rf"{LEFT}(?<!\d\.)(?<!\d[ -])\d{{1,8}}([ -])\d{{1,8}}(?>(?:\1\d{{1,8}})*)(?![ -]?\d)(?!\.\d)")
# Where one of these shapes may begin: decided in one pass, so that texts full of numbers stay cheap.
_CANDIDATE = ascii_pattern(
    rf"\d(?<!\d\d)(?:\d{{11}}|\d{{3}}{_SEP}\d{{4}}{_SEP}\d{{4}}{_SEP}\d|\d{{3}}{_SEP}\d{{6}}{_SEP}\d{{4}}"
    r"|(?<!\d[ -]\d)\d{0,7}[ -](?:\d[ -]?){12})"
)
_UNDECIDED = ascii_pattern(r"\d(?<!\d\d)[\d ._/-]*+[0-9A-Fa-f]{0,9}\Z")
_MAX_UNDECIDED = 64
"""Longer than a candidate (19 digits with gaps of up to three) and what must follow it."""
_EXPIRY = ascii_pattern(
    r"=\d{4}|[\s,;|:/\"'-]{1,3}(?:[A-Za-z]{3,7}[\s.:]{1,3})?(?:0[1-9]|1[0-2])[ /|:;-]{1,3}(?:20)?[2-4]\d(?!\d)"
)
"""A card's month and year behind it; with `=` as on its magnetic stripe."""
_PHONE_BEFORE = ascii_pattern(r"(?<![\w.])\+\d[\d ()./-]{6,24}\Z")
_ROW_BEFORE = ascii_pattern(r"(?:\d|(?<![A-Za-z0-9])[0-9A-Fa-f]{4}|[0-9A-Fa-f]:)(?:[ \t]|\\t){1,3}\Z")
_ROW_AFTER = ascii_pattern(r"(?:[ \t]|\\t){1,3}(?:\d|[0-9A-Fa-f]{4}(?![A-Za-z0-9]))")
_FOURS = ascii_pattern(r"(?<!\d)\d{4}(?:[ ._/-]{1,3}\d{4}){3}(?!\d)")
_LIST = "0123456789 \t\n,;\"'[(|"
_AROUND = 48

_ISSUERS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    # first and last prefix (of equal length), lengths of the number; ISO/IEC 7812 as the networks publish it
    (4, 4, (16, 13, 19)),  # Visa
    (51, 55, (16,)),  # Mastercard
    (2221, 2720, (16,)),
    (34, 34, (15,)),  # American Express
    (37, 37, (15,)),
    (300, 305, (14, 16)),  # Diners Club
    (3095, 3095, (14, 16)),
    (36, 36, (14, 16)),
    (38, 39, (14, 16)),
    (3528, 3589, (16, 19)),  # JCB
    (6011, 6011, (16, 19)),  # Discover
    (644, 659, (16, 19)),
    (60, 60, (16,)),  # RuPay
    (81, 82, (16,)),
    (508, 508, (16,)),
    (62, 62, (16, 19)),  # UnionPay
    (2200, 2204, (16, 19)),  # Mir
    (1800, 1800, (15,)),  # JCB before 1989
    (2131, 2131, (15,)),
    (5018, 5018, (16, 18, 19)),  # Maestro
    (5020, 5020, (16, 18, 19)),
    (5038, 5038, (16, 18, 19)),
    (5893, 5893, (16, 18, 19)),
    (6304, 6304, (16, 18, 19)),
    (6759, 6759, (16, 18, 19)),
    (6761, 6763, (16, 18, 19)),
)
_LENGTHS: dict[str, set[int]] = {}
for _first, _last, _lengths in _ISSUERS:
    for _prefix in range(_first, _last + 1):
        _LENGTHS.setdefault(str(_prefix), set()).update(_lengths)
_USUAL = frozenset((14, 15, 16))
"""Lengths that nearly all cards have."""
_OUTDATED = 13
"""Digits that Visa has issued none with for decades."""
_KEY_OF_ERROR = ascii_pattern(r"(?:Error|Exception): ?['\"]\Z")
_CUES = Cues(CARDS)


class CardNumbers:
    """Candidates by their shape, then issuer, checksum, and what stands around."""

    entity = "CARD_NUMBER"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        settled = len(text) if final else undecided_at(_UNDECIDED, text, start, _MAX_UNDECIDED)
        for candidate in numbers(_CANDIDATE, text, start):
            begin = candidate.start()
            if begin >= settled:
                break
            if begin < start or not (ends := _possible_ends(text, begin)):
                continue
            if not final and len(text) - ends[-1] < _AROUND:
                return spans, begin
            end = next((end for end in ends if _is_card(text, begin, end)), 0)
            if end:
                spans.append(Span(begin, end))
                start = end
        return spans, max(settled, start if spans else 0)


def _possible_ends(text: str, begin: int) -> list[int]:
    """Where a number from `begin` on may end: shape and checksum are a card's."""
    plain = _PLAIN.match(text, begin)
    if plain is not None:
        return [plain.end()] if luhn(plain.group()) else []
    groups = _GROUPS.match(text, begin, begin + _MAX_UNDECIDED)
    ends: list[int] = []
    digits = ""
    for group in _GROUP.finditer(groups.group()) if groups is not None else ():
        digits += group.group()
        if len(digits) > 19:
            break
        if len(digits) >= 12 and group.start() and luhn(digits):
            ends.append(begin + group.end())
    return ends


def _is_card(text: str, begin: int, end: int) -> bool:
    digits = _digits(text[begin:end])
    is_plain = len(digits) == end - begin
    is_announced = _is_announced(text, begin)
    if not _has_issuer(digits):
        return is_plain and is_announced
    if is_announced or _EXPIRY.match(text, end) is not None:
        return True
    if is_plain:
        return _is_alone(text, begin, end, digits)
    grouped = _GROUPED.fullmatch(text, begin, end)
    if grouped is not None and _is_grouped_by_issuer(digits, grouped):
        return not (_is_in_row(text, begin, end) or is_named(text, begin, GOODS))
    even = _EVEN.fullmatch(text, begin, end)
    return even is not None and _is_even(even.group()) and _has_no_digit_around(text, begin, end)


def _is_announced(text: str, begin: int) -> bool:
    """Whether a word says so, before the number itself or before a list that it stands in."""
    if _CUES.stand_before(text, begin):
        return True
    before = text[max(0, begin - CONTEXT) : begin]
    first = len(before.rstrip(_LIST))
    return first < len(before) and _CUES.stand_before(before, min(len(before), first + 1))


def _is_alone(text: str, begin: int, end: int, digits: str) -> bool:
    """Whether plain digits are no row's, no column's and no identifier."""
    if is_glued(text, begin, end) or is_named(text, begin) or is_json_number(text, begin):
        return False
    if len(digits) == _OUTDATED and _KEY_OF_ERROR.search(text, max(0, begin - BEFORE), begin):
        return False
    if len(digits) not in _USUAL and not _has_no_digit_around(text, begin, end):
        return False
    beside = [number_before(text, begin, lines=True), number_after(text, end, lines=True)]
    around = _GROUP.findall(text, max(0, begin - BEFORE), begin) + _GROUP.findall(text, end, end + _AROUND)
    beside += [number for number in around if len(number) == len(digits)]
    return all(_is_valid(number) for number in beside if number)


def _is_valid(number: str) -> bool:
    return number.isdigit() and 12 <= len(number) <= 19 and _has_issuer(number) and luhn(number)


def _is_in_row(text: str, begin: int, end: int) -> bool:
    """Whether groups of digits go on before or behind, or make a table with the lines above and below."""
    if is_glued(text, begin, end):
        return True
    if _ROW_AFTER.match(text, end, end + AFTER) is not None:
        return True
    before = text[max(0, begin - BEFORE) : begin]
    if _ROW_BEFORE.search(before) is not None and _PHONE_BEFORE.search(before) is None:
        return True
    around = [*_FOURS.findall(before), *_FOURS.findall(text[end : end + _AROUND])]
    return any(not _is_valid(_digits(number)) for number in around)


def _has_no_digit_around(text: str, begin: int, end: int) -> bool:
    around = f"{text[max(0, begin - _AROUND) : begin]} {text[end : end + _AROUND]}"
    return _GROUP.search(around.replace(text[begin:end], "")) is None


def _digits(text: str) -> str:
    return "".join(_GROUP.findall(text))


def _is_grouped_by_issuer(digits: str, grouped: re.Match[str]) -> bool:
    """American Express and Diners' Club write 4-6-5 and 4-6-4, all others fours."""
    sizes = [len(group) for group in _GROUP.findall(grouped.group())]
    return (sizes[1] == 6) == (len(digits) == 15 or sizes == [4, 6, 4])


def _is_even(text: str) -> bool:
    """All groups as long as the first, but for a shorter last one."""
    sizes = [len(group) for group in _GROUP.findall(text)]
    return set(sizes[:-1]) == {sizes[0]} and sizes[-1] <= sizes[0]


def _has_issuer(digits: str) -> bool:
    return any(len(digits) in _LENGTHS.get(digits[:size], ()) for size in (1, 2, 3, 4))
