"""Writes the `\\u` escapes of JSON as the characters they stand for, so that they hide nothing from the detectors.

The first stage of a text that is JSON. What comes out is the same JSON: characters that have to be escaped stay so.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|.|\Z)", re.DOTALL)
_UNFINISHED = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_KEPT = re.compile('[\\x00-\\x1f"\\\\\\x7f-\\x9f\ud800-\udfff]')


class PlainEscapes:
    """Works on one text that comes in pieces; holds back at most five characters: an escape that is not finished."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    @property
    def held(self) -> int:
        return len(self._held)

    @property
    def at_rest(self) -> bool:
        return not self._held

    def feed(self, text: str) -> str:
        if not self._held and "\\" not in text:
            return text
        raw = self._held + text
        self._held = ""
        pieces: list[str] = []
        start = 0
        for match in _ESCAPE.finditer(raw):
            if _UNFINISHED.match(raw, match.start()) is not None:
                self._held = raw[match.start() :]
                raw = raw[: match.start()]
                break
            if match[1] is not None and _KEPT.match(char := chr(int(match[1], 16))) is None:
                pieces += (raw[start : match.start()], char)
                start = match.end()
        pieces.append(raw[start:])
        return "".join(pieces)

    def finish(self) -> str:
        held, self._held = self._held, ""
        return held
