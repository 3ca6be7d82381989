"""Values of any length: certain after their first characters, and then swallowed until they end."""

from __future__ import annotations

import re


class Run:
    """The rest of a value that goes on while its characters do.

    `joints` belong to the value only between other characters of it: the dots of a JWT, not the one after it.
    """

    def __init__(self, chars: str, joints: str = "") -> None:
        joined = rf"(?:[{joints}][{chars}]++)*+" if joints else ""
        self._pattern = re.compile(rf"[{chars}]*+{joined}")
        self._joints = joints

    def __call__(self, text: str, end: int, final: bool) -> tuple[int, bool]:
        match = self._pattern.match(text, end)
        assert match is not None
        end = match.end()
        undecided = end == len(text) or (end == len(text) - 1 and text[end] in self._joints)
        return end, undecided and not final


def prefix_closure(literal: str, chars: str, least: int) -> str:
    """A pattern for every proper beginning of `literal` followed by `least` of `chars`."""
    pattern = rf"(?:{chars}{{0,{least - 1}}})"
    for char in reversed(literal[1:]):
        pattern = rf"(?:{re.escape(char)}{pattern})?"
    return re.escape(literal[0]) + pattern
