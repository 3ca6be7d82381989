"""Values of any length: certain after their first characters, and then swallowed until they end."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
