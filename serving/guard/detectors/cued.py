"""Values behind a cue that gives them away: certain after their first characters, and then swallowed to their end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from serving.guard.detector import Span
from serving.guard.detectors.growing import Run


class CuedValue(NamedTuple):
    """How a value behind a cue begins and goes on."""

    value: re.Pattern[str]
    """Its first characters."""
    undecided: re.Pattern[str]
    """The end of a text in which they may not all have come yet."""
    rest: Run
    is_value: Callable[[str], bool]
    """Whether first characters of such a form are ones."""
    reads: int | None = None
    """Characters that decide; None: no more than `undecided` waits for."""

    def scan(self, begins: Iterable[int], text: str, start: int, final: bool) -> tuple[list[Span], int]:
        """As a detector's, where cues end at `begins`."""
        return scan_cued(((begin, self) for begin in begins), text, start, final)


def scan_cued(begins: Iterable[tuple[int, CuedValue]], text: str, start: int, final: bool) -> tuple[list[Span], int]:
    """As a detector's, where a value of some form may begin at each of rising positions."""
    spans: list[Span] = []
    for begin, form in begins:
        if begin < start:
            continue
        end = len(text) if form.reads is None else min(len(text), begin + form.reads)
        may_go_on = not final and (form.reads is None or len(text) < begin + form.reads)
        if may_go_on and form.undecided.match(text, begin) is not None:
            return spans, begin
        value = form.value.match(text, begin, end)
        if value is None or not form.is_value(value.group()):
            continue
        start, still_open = form.rest(text, value.end(), final)
        if still_open:
            return [*spans, Span(begin, start, form.rest)], start
        spans.append(Span(begin, start))
    return spans, len(text)
