"""Values of any length: certain after their first characters, and then swallowed until they end; behind cues too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from serving.guard.detector import Span

Part = str | tuple[str, int, int]
"""A part of a shape: itself, or (characters, at least, at most)."""


class Run:
    """The rest of a value that goes on while its characters do.

    `joints` belong to the value only between other characters of it: the dots of a JWT, not the one after it.
    """

    def __init__(self, chars: str, joints: str = "") -> None:
        joined = rf"(?>(?:[{joints}][{chars}]++)*)" if joints else ""
        self._pattern = re.compile(rf"[{chars}]*+{joined}")
        self._joints = joints

    def __call__(self, text: str, end: int, final: bool) -> tuple[int, bool]:
        match = self._pattern.match(text, end)
        assert match is not None
        end = match.end()
        undecided = end == len(text) or (end == len(text) - 1 and text[end] in self._joints)
        return end, undecided and not final


def whole(parts: Sequence[Part]) -> str:
    """A pattern for the parts, one behind the other."""
    return "".join(re.escape(part) if isinstance(part, str) else rf"{part[0]}{{{part[1]},{part[2]}}}" for part in parts)


def beginning(parts: Sequence[Part], chars: str, least: int) -> str:
    """A pattern for what may become the parts with at least so many characters behind them, and is not yet."""
    pattern = rf"{chars}{{0,{least - 1}}}"
    for part in reversed(parts):
        if isinstance(part, str):
            for char in reversed(part):
                pattern = rf"(?:{re.escape(char)}{pattern})?"
        else:
            its, fewest, most = part
            pattern = rf"(?:{its}{{{fewest},{most}}}{pattern}|{its}{{0,{most}}})"
    return pattern


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
