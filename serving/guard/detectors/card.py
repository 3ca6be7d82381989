"""Payment card numbers: 12 to 19 digits, plain or in groups, with Luhn's checksum and of a known issuer's range.

After a word like `card` the issuer does not matter.
"""

from __future__ import annotations

from serving.guard.detector import Span
from serving.guard.detectors.boundary import LEFT, ascii_pattern
from serving.guard.detectors.checksums import luhn
from serving.guard.detectors.cue import Cues
from serving.guard.detectors.numbers import numbers
from serving.guard.detectors.phrases import CARDS

_GROUP = ascii_pattern(r"\d+")
# Plain digits stand alone: not the fraction or whole part of a decimal, not a piece of a hexadecimal string.
_PLAIN = ascii_pattern(rf"{LEFT}(?<!\d\.)\d{{12,19}}(?!\d)(?!\.\d)(?![0-9A-Fa-f]{{1,8}}+(?![G-Zg-z]))")
_SEP = r"[ ._/-]{1,3}"
# In fours, and American Express' and Diners' 4-6-5 and 4-6-4: these may stand between other numbers.
_GROUPED = tuple(
    ascii_pattern(rf"{LEFT}(?<!\d\.){shape}(?!\d)")
    for shape in (
        rf"\d{{4}}(?:{_SEP}\d{{4}}){{3}}{_SEP}\d{{1,3}}",
        rf"\d{{4}}(?:{_SEP}\d{{4}}){{2}}{_SEP}\d{{1,7}}",
        rf"\d{{4}}{_SEP}\d{{6}}{_SEP}\d{{4,5}}",
    )
)
# Any other even grouping must be the whole run of digits, or lists of numbers would be full of cards.
_EVEN = ascii_pattern(rf"{LEFT}(?<!\d\.)(?<!\d[ -])\d{{1,8}}([ -])\d{{1,8}}(?>(?:\1\d{{1,8}})*)(?![ -]?\d)(?!\.\d)")
# Where one of these shapes may begin: decided in one pass, so that texts full of numbers stay cheap.
_CANDIDATE = ascii_pattern(
    rf"\d(?<!\d\d)(?:\d{{11}}|\d{{3}}{_SEP}\d{{4}}{_SEP}\d{{4}}{_SEP}\d|\d{{3}}{_SEP}\d{{6}}{_SEP}\d{{4}}"
    r"|(?<!\d[ -]\d)\d{0,7}[ -](?:\d[ -]?){12})"
)
_UNDECIDED = ascii_pattern(r"\d(?<!\d\d)[\d ._/-]*+[0-9A-Fa-f]{0,9}\Z")
_MAX_UNDECIDED = 64
"""Longer than a candidate (19 digits with gaps of up to three) and what must follow it."""

_ISSUERS: tuple[tuple[int, int, range], ...] = (
    # first and last prefix (of equal length), lengths of the number; ISO/IEC 7812 as the networks publish it
    (4, 4, range(13, 20, 3)),  # Visa
    (51, 55, range(16, 17)),  # Mastercard
    (2221, 2720, range(16, 17)),
    (34, 34, range(15, 16)),  # American Express
    (37, 37, range(15, 16)),
    (300, 305, range(14, 20)),  # Diners Club
    (36, 36, range(14, 20)),
    (38, 39, range(14, 20)),
    (3528, 3589, range(16, 20)),  # JCB
    (60, 60, range(16, 20)),  # Discover, RuPay
    (62, 62, range(16, 20)),  # UnionPay
    (64, 65, range(16, 20)),
    (81, 82, range(16, 17)),
    (2200, 2205, range(16, 20)),  # Mir
    (1800, 1800, range(15, 16)),  # JCB before 1989
    (2131, 2131, range(15, 16)),
    (50, 50, range(12, 20)),  # Maestro and national schemes
    (56, 59, range(12, 20)),
    (61, 61, range(12, 20)),
    (63, 63, range(12, 20)),
    (66, 69, range(12, 20)),
)
_LENGTHS = {str(prefix): lengths for first, last, lengths in _ISSUERS for prefix in range(first, last + 1)}
_CUES = Cues(CARDS)


class CardNumbers:
    """Candidates by their shape, then issuer and checksum."""

    entity = "CARD_NUMBER"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        settled = len(text) if final else _undecided_at(text, start)
        for candidate in numbers(_CANDIDATE, text, start):
            begin = candidate.start()
            if begin >= settled:
                break
            if begin >= start and (end := _card_end(text, begin)):
                spans.append(Span(begin, end))
                start = end
        return spans, max(settled, start if spans else 0)


def _undecided_at(text: str, start: int) -> int:
    undecided = _UNDECIDED.search(text, max(start, len(text) - _MAX_UNDECIDED))
    return len(text) if undecided is None else undecided.start()


def _card_end(text: str, begin: int) -> int:
    """The end of the card number that begins at `begin`, 0 when there is none."""
    plain = _PLAIN.match(text, begin)
    if plain is not None:
        digits = plain.group()
        return plain.end() if _is_card(digits) or (luhn(digits) and _CUES.stand_before(text, begin)) else 0
    for shape in _GROUPED:
        grouped = shape.match(text, begin)
        if grouped is not None and _is_card(_digits(grouped.group())):
            return grouped.end()
    even = _EVEN.match(text, begin, begin + _MAX_UNDECIDED)
    if even is not None and _is_even(even.group()) and _is_card(_digits(even.group())):
        return even.end()
    return 0


def _digits(text: str) -> str:
    return "".join(_GROUP.findall(text))


def _is_even(text: str) -> bool:
    """All groups as long as the first, but for a shorter last one."""
    sizes = [len(group) for group in _GROUP.findall(text)]
    return set(sizes[:-1]) == {sizes[0]} and sizes[-1] <= sizes[0]


def _is_card(digits: str) -> bool:
    return 12 <= len(digits) <= 19 and _has_issuer(digits) and luhn(digits)


def _has_issuer(digits: str) -> bool:
    return any(len(digits) in _LENGTHS.get(digits[:size], ()) for size in (1, 2, 3, 4))
