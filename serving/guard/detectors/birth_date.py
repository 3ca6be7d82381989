"""Dates of birth: any way of writing a date, after words like `born` or `DOB`."""

from __future__ import annotations

from serving.guard.detector import Span
from serving.guard.detectors.boundary import ascii_pattern, undecided_at
from serving.guard.detectors.cue import Cues

_CUES = Cues((
    "born", "dob", "d o b", "date of birth", "birth", "birthday", "birthdate", "geboren am", "geburtsdatum",
    "geburtstag", "ne le", "nee le", "date de naissance", "nacido el", "nacida el", "fecha de nacimiento",
    "data di nascita", "nato il", "nata il", "geboortedatum", "geboren op", "data de nascimento",
))  # fmt: skip
_MONTH = (
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
    r"|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC|Mai|mai|Okt|okt|Dez|dez)[A-Za-z]{0,6}"
)
_DAY = r"[0-3]?\d(?:st|nd|rd|th|\.)?"
_DATE = ascii_pattern(
    r"(?<![A-Za-z0-9_])(?:"
    r"(?:19|20)\d\d([./-])[01]?\d\1[0-3]?\d|[0-3]?\d([./-])[0-3]?\d\2(?:19|20)?\d\d|[0-3]?\d [01]?\d (?:19|20)\d\d"
    rf"|{_DAY}[ -](?:of )?{_MONTH}\.?,?[ -](?:19|20)?\d\d|{_MONTH}\.? {_DAY},? (?:19|20)\d\d"
    r")(?![A-Za-z0-9_])"
)
_UNDECIDED = ascii_pattern(
    rf"(?<![A-Za-z0-9_])(?:(?:\d|{_MONTH})[A-Za-z0-9./, -]{{0,31}}|[JFMASONDjfmasond][A-Za-z]{{0,2}})\Z"
)
_MAX_UNDECIDED = 40
"""Longer than the longest date."""


class BirthDates:
    """Dates in one pass, then the words before them."""

    entity = "BIRTH_DATE"
    skips_plain_words = False
    """`March 3, 1985` begins with a word."""

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        settled = len(text) if final else undecided_at(_UNDECIDED, text, start, _MAX_UNDECIDED)
        position = start
        while (date := _DATE.search(text, position)) is not None and date.start() < settled:
            position = date.end()
            if _CUES.stand_before(text, date.start()):
                spans.append(Span(date.start(), position))
                start = position
        return spans, max(settled, start if spans else 0)
