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

    def scan(self, begins: Iterable[int], text: str, start: int, final: bool) -> tuple[list[Span], int]:
        """As a detector's, where cues end at `begins`."""
        spans: list[Span] = []
        for begin in begins:
            if begin < start:
                continue
            if not final and self.undecided.match(text, begin) is not None:
                return spans, begin
            value = self.value.match(text, begin)
            if value is None or not self.is_value(value.group()):
                continue
            start, still_open = self.rest(text, value.end(), final)
            if still_open:
                return [*spans, Span(begin, start, self.rest)], start
            spans.append(Span(begin, start))
        return spans, len(text)
