"""Where numbers stand that may be a card's, an account's, a person's or a phone's: found once for all detectors.

Most numbers of most texts are dates, times, amounts and counts. Two sieves pass over them: one knows the shapes that
count by themselves, the other the words that announce a number of any shape. What is left are the first digits that
each detector tries its own patterns on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from serving.guard.detectors.boundary import ascii_pattern
from serving.guard.detectors.iban_forms import FORMS
from serving.guard.detectors.phrases import (
    ACCOUNTS,
    CARDS,
    DOCUMENTS,
    FILLERS,
    MEDICAL,
    PHONES,
    STATE_NUMBERS,
)
from serving.guard.detectors.sieve import ESCAPE, LEFT, OPEN, Sieve, after_escape, matches, one_byte_each

_DIGITS = ascii_pattern(r"\d+")
# Four digits with at most sixteen characters between two of them, as in the IBAN `gb29 n w b k 6016`.
_START = ascii_pattern(r"\d(?<!\d\d)(?=(?:[^0-9]{0,16}\d){3})")


def _not_after(signs: str) -> str:
    """`LEFT` where no digit with one of some signs comes before: in the middle of a list or a date, that is."""
    return rf"(?:^|[^\w{signs}]|(?:^|[^0-9])[{signs}]|{ESCAPE})"


# The shapes below begin before or at the first digit of a number, and say only as much as keeps dates and amounts out.
_GAP = r"[ ./()-]{0,3}"
_SEP = r"[ ._/-]{1,3}"
_END = r"(?:\W|\z)"
_CARDS = (
    r"(?:[34568]\d|2[0-7])\d{10}",
    r"1800\d{11}",
    rf"\d{{4}}{_SEP}(?:\d{{4}}{_SEP}\d{{4}}|\d{{6}}{_SEP}\d{{4}})",
)
_EVEN_CARDS = (
    r"\d(?:[ -]\d){11}",
    r"\d\d(?:[ -]\d\d){5}",
    r"\d{3}(?:[ -]\d{3}){3}",
    r"\d{5}[ -]\d{5}[ -]\d",
    r"\d{6}[ -]\d{6}",
    r"\d{7}[ -]\d{5}",
    r"\d{8}[ -]\d{4}",
)
_NATIONAL_IDS = (
    # A date of birth first: then times in milliseconds are none, not before 2033.
    rf"[0-3]\d[01]\d{{8}}{_END}",
    rf"\d\d[01]\d[0-3]\d{{6}}{_END}",
    rf"\d\d[01]\d[0-3]\d{{5}}[01]\d\d{_END}",
    rf"\d{{8}}[ -]?[A-Z]{_END}",
    r"\d{6}(?:19|20)\d\d[01]\d[0-3]\d{4}[0-9X]",
    r"\d{3}(?:-\d\d-| \d\d )\d{4}",
    r"\d{3}\.\d{3}\.\d{3}-\d\d",
    r"\d\d\.\d{3}\.\d{3}/\d{4}",
    r"756[. ]\d{4}[. ]\d{4}[. ]\d\d",
    rf"\d{{6}}(?:\d\d)?[-+]\d{{4}}{_END}",
    rf"\d{{6}}[-+A-F]\d{{3}}[0-9A-Y]{_END}",
    r"\d\d[01]\d[0-3]\d-[1-8]\d{6}",
    r"\d\d\.\d\d\.\d\d-\d{3}",
    rf"[12] ?\d\d ?[0-3]\d ?\d[0-9AB] ?\d{{3}} ?\d{{3}} ?\d\d{_END}",
)
_PHONES = (
    r"(?:1[ .-])?\d{3}[ .-]\d{3}[ .-]\d{4}",
    r"1[ .-]\(\d{3}\)",
    r"8[ -]?\(\d{3}\)",
    r"1[3-9]\d[ -]\d{4}[ -]\d{4}",
    r"0[1-9](?:\.\d\d){4}",
    rf"00[1-9]\d{{0,2}}[ ./()-]{{1,3}}\d(?:{_GAP}\d){{2}}",
)
_DIGITS_FIRST, _LETTERS_FIRST, _EITHER_FIRST = (
    "|".join(f"{country[0]} ?{country[1]}" for country, form in FORMS.items() if form[2] == kind) for kind in "nac"
)
_IBAN_GAP = r"[ \t./-]{0,3}"
_IBANS = (
    rf"(?i:{_DIGITS_FIRST})[ .-]{{0,2}}\d(?:{_IBAN_GAP}\d){{5}}",
    rf"(?i:{_LETTERS_FIRST})[ .-]{{0,2}}\d{_IBAN_GAP}\d(?:{_IBAN_GAP}[A-Za-z]){{2}}",
    rf"(?i:{_EITHER_FIRST})[ .-]{{0,2}}\d{_IBAN_GAP}\d(?:{_IBAN_GAP}[A-Za-z0-9]){{4}}",
)
_LETTERED = (
    *_IBANS,
    r"[A-Z]{2}\d\d ?\d\d ?\d\d ?[A-D]",
    r"[A-Z]{6}\d\d[A-Z]\d\d[A-Z]",
    r"[A-Z]{4}\d{6}[HM]",
    r"[A-Z]{5}\d{4}[A-Z]",
    r"[STFGMXYZ]-?\d{7}-?[A-Z]",
)
# Nine digits with a trunk 0.
_TRUNK = "|".join(rf"\d{{{size}}}\)?[ /-]{{1,3}}\d(?:[ -]?\d){{{6 - size}}}" for size in range(5))
_SHAPED = Sieve(
    rf"{LEFT}(?:{'|'.join((*_CARDS, *_NATIONAL_IDS, *_PHONES, *_LETTERED))})",
    rf"{_not_after(' -')}(?:{'|'.join(_EVEN_CARDS)})",
    rf"{_not_after('./,:-')}\(?0[1-9](?:{_TRUNK})",
    rf"{OPEN}\+\(?\d(?:{_GAP}\d){{2}}",
    rf"{OPEN}\(\d{{2,3}}\)[ .-]{{0,2}}\d{{3}}",
    r"[A-Z] \d\d ?\d\d ?\d\d ?[A-D]",
)

_LAST_WORDS = "|".join(
    sorted({phrase.split()[-1] for phrase in (*CARDS, *STATE_NUMBERS, *DOCUMENTS, *MEDICAL, *ACCOUNTS)})
)
_FILLER = rf"(?:{'|'.join(sorted(FILLERS))})"
_SIGNS = rf"(?:[^a-z0-9]|{ESCAPE})+"
_ANNOUNCED = Sieve(
    rf"(?i:(?:{_LAST_WORDS}){_SIGNS}(?:{_FILLER}{_SIGNS})*[a-z-]*\d(?:[a-z .-]{{0,2}}\d){{4}})",
    rf"(?i:(?:phone|{'|'.join(PHONES)})(?:[\s\x0b:=\"'#.>(\[_+-]|{ESCAPE}|is|at|on|me|us|to|number|no|nr)*\d(?:{_GAP}\d){{4}})",
)


def numbers(pattern: re.Pattern[str], text: str, start: int) -> Iterable[re.Match[str]]:
    """Matches of a detector's pattern, from `start` on, each beginning with the first digit of a number."""
    return matches(pattern, text, _positions(text)[0], start)


def announced_numbers(pattern: re.Pattern[str], text: str, start: int) -> Iterable[re.Match[str]]:
    """The same of numbers that words announce, which are few."""
    return matches(pattern, text, _positions(text)[1], start)


@lru_cache(1)
def _positions(text: str) -> tuple[list[int], list[int]]:
    """First digits of all numbers that may be values, and of those among them that words announce."""
    announced = list(_first_digits(_ANNOUNCED, text))
    return sorted({*announced, *_first_digits(_SHAPED, text)}), announced


def _first_digits(sieve: Sieve, text: str) -> Iterator[int]:
    """First digits of what a sieve finds. It goes on after their run: what leads to the next number is behind that."""
    data = one_byte_each(text)
    position = sieve.find(data, 0)
    while position >= 0:
        # The digits of an escape before the number are not its own.
        digits = _DIGITS.search(text, after_escape(text, position) if text[position] == "\\" else position)
        if digits is None:
            return
        begin, end = digits.span()
        if _START.match(text, begin) is not None:
            yield begin
        position = sieve.find(data, end)
