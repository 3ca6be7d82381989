"""Patterns of the detectors: where a value may begin, and which digits count."""

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
