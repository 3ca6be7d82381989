"""Phone numbers: international, the common national ways of writing them, and bare digits after a word like `phone`.

By shape: whether a number is assigned does not matter to whoever wrote it, and made-up ones stand in every example.
Shapes that rows of numbers, decimals, dumps and identifiers have too count only where a number stands by itself; the
rest is left to the words before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from serving.guard.detector import Span
from serving.guard.detectors.boundary import LEFT, ascii_pattern, undecided_at, without_escapes
from serving.guard.detectors.neighbours import (
    AFTER,
    BEFORE,
    is_glued,
    is_in_name,
    is_named,
    number_after,
    number_before,
)
from serving.guard.detectors.numbers import numbers
from serving.guard.detectors.phrases import PHONES

_GROUP = ascii_pattern(r"\d+")
_GAP = r"[ ./()-]{0,3}"
_INTERNATIONAL = ascii_pattern(rf"{LEFT}(?<![)\]^~+-])\+\(?[1-9](?:{_GAP}\d){{6,14}}")
_DECIMAL = ascii_pattern(r"\+\d+\.\d+(?![\d.-])(?![ ()/]{1,3}\d+\b(?!\.))|\+[\d ().-]* -\d")
"""A decimal with its sign, or two numbers with theirs."""
_INTERNATIONAL_00 = ascii_pattern(rf"{LEFT}(?<!\.)(?<!\d[ .,-])00[1-9]\d{{0,2}}[ /()-]{{1,3}}\d(?:{_GAP}\d){{5,12}}")
_NORTH_AMERICAN = ascii_pattern(
    rf"{LEFT}(?<!\d[.-])(?:1[ .-])?(?:\([2-9]\d\d\)[ .-]{{0,2}}\d{{3}}[ .-]?|[2-9]\d\d(?:-\d{{3}}[ -]|\.\d{{3}}[ .]))"
    r"\d{4}(?!\d)(?![.-]\d)"
)
_SPACED_NORTH_AMERICAN = ascii_pattern(rf"{LEFT}(?<!\d[ .-])(?:1 )?[2-9]\d\d \d{{3}}[ -]\d{{4}}(?!\d)(?![ .-]\d)")
_AREA_IN_PARENTHESES = ascii_pattern(rf"{LEFT}\(\d{{2,3}}\)[ -]?\d{{3,5}}[ -]\d{{3,4}}(?!\d)(?![.-]\d)")
# The trunk prefix 0 of most of Europe, Asia, Africa and Oceania.
_TRUNK = ascii_pattern(
    rf"{LEFT}(?<!\.)(?<!\d[./,:-])(?:(?<!\d )\(?0[1-9]\)?|\(?0[1-9]\d{{1,4}}\)?)"
    r"[ /-]{1,3}\d{2,8}(?:[ -]\d{2,5}){0,4}(?!\d)"
)
_NO_TRUNK = ascii_pattern(r"0\d{4}[ -]\d{4}(?![ -]?\d)|0\d\d+[ -]0|[01 /-]++(?!\d)")
"""A ZIP code with its four more digits, code points, octal numbers, bits."""
_CODE_POINTS = ascii_pattern(r"00\d\d(?>(?: 0\d{3}){2,})(?! ?\d)")
_DOTTED_PAIRS = ascii_pattern(rf"{LEFT}(?<!\d\.)0[1-9](?:\.\d\d){{4}}(?!\d)(?!\.\d)")
_CHINESE_MOBILE = ascii_pattern(rf"{LEFT}(?<!\d[ .-])1[3-9]\d[ -]\d{{4}}[ -]\d{{4}}(?!\d)(?![ .-]\d)")
_RUSSIAN = ascii_pattern(rf"{LEFT}(?<!\d[ .-])8[ -]?\(\d{{3}}\)[ -]?\d{{3}}[ -]\d\d[ -]\d\d(?!\d)(?![ .-]\d)")
_EXTENSION = ascii_pattern(r" ?(?:x|ext\.?|EXT\.?|Ext\.?) ?\d{1,6}(?!\w)")

_AFTER_CUE = ascii_pattern(rf"{LEFT}(?<!\d[ ./()-])(?<!\d[ ./()-]{{2}})\(?\d(?:{_GAP}\d){{6,14}}")
# In the lower-cased text before a number. Longer words do not count (cellular, recall), compounds of phone do.
_CUE = ascii_pattern(
    r"(?:phone(?<!iphone)(?<!microphone)(?<!headphone)(?:_?number|_?no|_?nr)?"
    rf"|(?:{'|'.join(PHONES)})"
    r"(?<![a-z]tel)(?<![a-z]cell)(?<![a-z]fax)(?<![a-z]call)(?<![a-z]ring)(?<![a-z]dial)(?<![a-z]desk))"
    r"(?![a-z]{3})(?:[\s:=\"'#.>(\[_-]|is|at|on|me|us|to|number|no|nr){0,12}\Z"
)
_MAX_CUE = 48
_BRACKETED = ascii_pattern(r"\d{1,5}\)")
# Where one of these shapes may begin: decided in one pass, so that texts full of numbers stay cheap. Of a run of
# numbers without any such shape only the first counts, as what may follow a cue.
_CANDIDATE = ascii_pattern(
    r"\d(?<!\d\d)(?:"
    r"(?:(?<=\+\d)|(?<=\+\(\d)|(?<=0)(?=\d|\)?[ /.-])|(?<!\d[ ./()-]\d)(?<!\d[ ./()-]{2}\d)(?<!\d[ ./()-]{3}\d))"
    rf"(?:{_GAP}\d){{6}}"
    r"|\d\d[ .-]\d{3}[ .-]\d{4}|(?<=1)[ .-]\(?\d{3}[ .)-]{1,3}\d{3}[ .-]?\d{4}|(?<=\(\d)\d{1,2}\)[ .-]{0,2}\d{3}"
    r"|(?<=1)[3-9]\d[ -]\d{4}[ -]\d{4})"
)
_DATE = ascii_pattern(r"(?:19|20)\d\d[ ./-][01]?\d[ ./-][0-3]?\d(?!\d)|[0-3]?\d[ ./-][0-3]?\d[ ./-](?:19|20)\d\d(?!\d)")
_IP_ADDRESS = ascii_pattern(r"\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)")

_UNDECIDED = ascii_pattern(r"(?:[+(]{0,2}\d(?<!\d\d)[\d ./()-]*+|[+(]{1,2})\Z")
_MAX_UNDECIDED = 80
"""Longer than a candidate (15 digits with gaps of up to three, two signs before) and what must follow it."""

_SIGNED_BEFORE = ascii_pattern(r"[\d)][ \t,;]{1,3}\Z")
_SIGNED_AFTER = ascii_pattern(r"[ \t,;]{1,3}(?:-|\+\d{1,6}(?!\d)|\d)\d*")
_PHONE_AFTER = ascii_pattern(r"(?:\t| ?[,;|/])[ \t]*[\"']?(?:\+|\(|0[1-9]|\d{3}[ -]\d{3})")
_PHONE_BEFORE = ascii_pattern(
    r"(?<![\w.,-])(?:\+|\(?0[1-9]|\(\d|\d{3}[ -]\d{3})[\d ()./-]{6,18}[\"']?(?:\t| ?[,;|/])[ \t]*[\"']?\Z"
)
_BYTES_BEFORE = ascii_pattern(r"(?:(?<![A-Za-z0-9])[0-9A-Fa-f]{2}[ :]{1,2}){3}\Z")
_BYTES_AFTER = ascii_pattern(r"(?:[ :]{1,2}[0-9A-Fa-f]{2}(?![A-Za-z0-9])){2}")
_LINE_BEFORE = ascii_pattern(r"(?:^|\n|\\n)[\s,;|\"'(\[{]*\Z")
_LINE_AFTER = ascii_pattern(r"[ \t,;|\"')\]}]*(?:\n|\\n|\Z)")
_NUMBERS_BEFORE = ascii_pattern(r"(?:^|\n|\\n)[ \t|]*(?![0+(])\d[\d ,.|\t-]{5,}(?:\n|\\n)[\s|]*\Z")
_NUMBERS_AFTER = ascii_pattern(r"[ \t,;|\"')\]}]*(?:\n|\\n)[ \t|]*(?![0+(])\d[\d ,.|\t-]{5,}")

_COUNTRY_CODES = frozenset(map(str, (
    1, 7, 20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55,
    56, 57, 58, 60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98, 211, 212, 213,
    216, 218, 220, 221, 222, 223, 224, 225, 226, 227, 228, 229, 230, 231, 232, 233, 234, 235, 236, 237,
    238, 239, 240, 241, 242, 243, 244, 245, 246, 247, 248, 249, 250, 251, 252, 253, 254, 255, 256, 257,
    258, 260, 261, 262, 263, 264, 265, 266, 267, 268, 269, 290, 291, 297, 298, 299, 350, 351, 352, 353,
    354, 355, 356, 357, 358, 359, 370, 371, 372, 373, 374, 375, 376, 377, 378, 379, 380, 381, 382, 383,
    385, 386, 387, 389, 420, 421, 423, 500, 501, 502, 503, 504, 505, 506, 507, 508, 509, 590, 591, 592,
    593, 594, 595, 596, 597, 598, 599, 670, 672, 673, 674, 675, 676, 677, 678, 679, 680, 681, 682, 683,
    685, 686, 687, 688, 689, 690, 691, 692, 800, 808, 850, 852, 853, 855, 856, 870, 878, 880, 881, 882,
    883, 886, 888, 960, 961, 962, 963, 964, 965, 966, 967, 968, 970, 971, 972, 973, 974, 975, 976, 977,
    979, 992, 993, 994, 995, 996, 998,
)))  # fmt: skip
"""ITU-T E.164 country calling codes."""

_MOST_DIGITS = {
    "1": 11, "7": 11, "31": 11, "32": 11, "33": 11, "34": 11, "39": 13, "41": 11, "44": 12, "45": 10, "46": 12,
    "47": 10, "48": 11, "52": 12, "55": 13, "61": 11, "64": 12, "65": 10, "81": 12, "82": 12, "86": 13, "91": 12,
    "351": 12, "353": 12, "420": 12, "852": 11, "971": 12, "972": 12,
}  # fmt: skip
"""Most digits with the country code, where that is fixed: numbers that follow a phone number are not swallowed."""


class PhoneNumbers:
    """Candidates of seven digits and more, then their shape."""

    entity = "PHONE_NUMBER"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        settled = len(text) if final else undecided_at(_UNDECIDED, text, start, _MAX_UNDECIDED)
        position = start
        for candidate in numbers(_CANDIDATE, text, start):
            if candidate.start() < position:
                continue
            begin = _with_sign(text, position, candidate.start())
            if begin >= settled:
                break
            end, counts = _shaped(text, begin)
            if end and not final and len(text) - end < AFTER:
                return spans, begin
            if not end or not counts(text, begin, end):
                end = _cued_end(text, begin)
            if end:
                spans.append(Span(begin, end))
                start = position = end
            else:
                group = _GROUP.match(text, candidate.start())
                assert group is not None
                position = group.end()
        return spans, max(settled, start if spans else 0)


def _with_sign(text: str, start: int, begin: int) -> int:
    """`begin`, moved before the `+` and the bracket round an area code that open the number."""
    if begin > start and text[begin - 1] == "(" and _BRACKETED.match(text, begin) is not None:
        begin -= 1
    if begin > start and text[begin - 1] == "+":
        begin -= 1
    return begin


def _shaped(text: str, begin: int) -> tuple[int, Callable[[str, int, int], bool]]:
    """The end of the shape of a phone number that begins at `begin`, 0 when there is none, and what makes it one."""
    if text[begin] == "+":
        number = _INTERNATIONAL.match(text, begin)
        return (0 if number is None else _international_end(text, number, 0)), _is_international
    for shape, counts in _SHAPES:
        match = shape.match(text, begin)
        if match is not None:
            return match.end(), counts
    number = _INTERNATIONAL_00.match(text, begin)
    is_number = number is not None and _CODE_POINTS.match(text, begin) is None
    if number is not None and is_number and (end := _international_end(text, number, 2)):
        return end, _stands_alone
    return _trunk_end(text, begin), _stands_alone


def _is_international(text: str, begin: int, end: int) -> bool:
    """Not a decimal with its sign, not a number of a signed row."""
    if _DECIMAL.match(text, begin, end) is not None or _DATE.match(text, begin + 1) is not None:
        return False
    if _is_glued(text, begin, end):
        return False
    plain = text[begin + 1 : end].isdigit()
    return not plain or (end - begin > 10 and not (_is_signed_row(text, begin, end)))


def _is_signed_row(text: str, begin: int, end: int) -> bool:
    return bool(_SIGNED_BEFORE.search(text, max(0, begin - BEFORE), begin) or _SIGNED_AFTER.match(text, end))


def _is_named_else(text: str, begin: int, end: int) -> bool:
    return _is_glued(text, begin, end) or is_named(text, begin)


def _is_north_american(text: str, begin: int, end: int) -> bool:
    return not (_is_named_else(text, begin, end) or _is_in_column(text, begin, end))


def _stands_alone(text: str, begin: int, end: int) -> bool:
    """Not one of a row of numbers, unless the others are phone numbers as well."""
    if _is_named_else(text, begin, end) or _is_list(text[begin:end]):
        return False
    if number_after(text, end) and _PHONE_AFTER.match(text, end) is None:
        return False
    if number_before(text, begin) and _PHONE_BEFORE.search(text, max(0, begin - BEFORE), begin) is None:
        return False
    if _BYTES_AFTER.match(text, end) or _BYTES_BEFORE.search(text, max(0, begin - BEFORE), begin):
        return False
    return not _is_in_column(text, begin, end)


def _is_in_column(text: str, begin: int, end: int) -> bool:
    """Whether nothing else is in its line and the next line or the one before is numbers that are no phone's."""
    if _LINE_AFTER.match(text, end) is None or _LINE_BEFORE.search(text, max(0, begin - BEFORE), begin) is None:
        return False
    before = _NUMBERS_BEFORE.search(text, max(0, begin - BEFORE), begin)
    return before is not None or _NUMBERS_AFTER.match(text, end) is not None


def _is_glued(text: str, begin: int, end: int) -> bool:
    extension = _EXTENSION.match(text, end)
    return is_glued(text, begin, end if extension is None else extension.end())


_SHAPES = (
    (_NORTH_AMERICAN, _is_north_american),
    (_SPACED_NORTH_AMERICAN, _stands_alone),
    (_AREA_IN_PARENTHESES, _stands_alone),
    (_DOTTED_PAIRS, _stands_alone),
    (_CHINESE_MOBILE, _stands_alone),
    (_RUSSIAN, _stands_alone),
)


def _international_end(text: str, number: re.Match[str], skip: int) -> int:
    """Where the number ends by its country's rules; `skip` digits (00) stand before the country code."""
    digits = "".join(_GROUP.findall(number.group()))[skip:]
    code = next((digits[:size] for size in (1, 2, 3) if digits[:size] in _COUNTRY_CODES), None)
    if code is None or (code == "1" and digits[1:2] in "01"):
        return 0
    most = _MOST_DIGITS.get(code, 15) + skip + ("(0)" in number.group())
    return _group_end(text, number.start(), 8 + skip + (3 if code == "1" else 0), most)


def _trunk_end(text: str, begin: int) -> int:
    number = _TRUNK.match(text, begin)
    if number is None or _DATE.match(text, begin) is not None or _NO_TRUNK.match(text, begin) is not None:
        return 0
    return _group_end(text, begin, 9, 12, number.end())


def _cued_end(text: str, begin: int) -> int:
    first = begin + (text[begin] == "+")
    number = _AFTER_CUE.match(text, first)
    if number is None or _DATE.match(text, first) is not None or _IP_ADDRESS.match(text, first) is not None:
        return 0
    before = without_escapes(text[max(0, begin - _MAX_CUE) : begin]).lower()
    if is_in_name(text, begin) or _CUE.search(before) is None:
        return 0
    return _group_end(text, begin, 7, 15)


def _group_end(text: str, begin: int, least: int, most: int, limit: int | None = None) -> int:
    """The end of the last group of digits with which the number has at most `most` digits, 0 if under `least`."""
    count = end = 0
    for group in _GROUP.finditer(text, begin, begin + _MAX_UNDECIDED - 8 if limit is None else limit):
        if end and group.start() - end > 3:
            break
        if end and not set(text[end : group.start()]) <= set(" ./()-"):
            break
        if count + len(group.group()) > most:
            break
        count += len(group.group())
        end = group.end()
    return end if count >= least else 0


def _is_list(number: str) -> bool:
    """Round numbers and powers of two in a row (`256 512 1024`) are sizes."""
    sizes = [int(group) for group in _GROUP.findall(number)]
    return all(size % 8 == 0 for size in sizes) or all(size % 10 == 0 for size in sizes)
