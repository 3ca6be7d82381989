"""Patterns of the detectors: where a value may begin, which digits count, and what a stream leaves undecided."""

from __future__ import annotations

import re

LEFT = r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4}))"
"""A pattern for the position before a value: no word goes on there, or the letters before are a JSON escape (`\\n`)."""


_ESCAPE = re.compile(r"\\(?:[nrtbf]|u[0-9A-Fa-f]{4})")


def without_escapes(text: str) -> str:
    """The text with a space for each JSON escape, so that no letter of one is taken for a word's."""
    return _ESCAPE.sub(" ", text) if "\\" in text else text


def ascii_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern in which `\\d` is 0-9: in folded text there are no others that count, and it is faster."""
    return re.compile(pattern, re.ASCII)


def undecided_at(undecided: re.Pattern[str], text: str, start: int, longest: int) -> int:
    """Where a value may have begun whose end or whose follower is not known yet; the end of the text when nowhere.

    `undecided` is anchored to the text's end and matches at most `longest` characters.
    """
    match = undecided.search(text, max(start, len(text) - longest))
    return len(text) if match is None else match.start()
