"""Events that differ from an earlier one in their text and in numbers: known by the bytes in between, and not parsed.

The text may stand in several places, as it does where an event also tells its token. What the parsing of the earlier
event has shown holds for every one with the same bytes around text and numbers, as long as both are written plainly.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

# What one of them has to be, in JSON (RFC 8259): a text without escapes, and numbers that any parser can hold.
PLAIN = re.compile(rb"[ !#-\[\]-~]++")
_NUMBER = re.compile(rb"-?(?:0|[1-9]\d{0,15})(?:\.\d{1,24})?(?:[eE][+-]?\d{1,2})?")
_WHOLE = re.compile(rb"(?:0|[1-9]\d{0,8})")
_LIST = re.compile(rb"\d[\d, ]*+")
_VALUES = {b"logprob": _NUMBER, b"sequence_number": _WHOLE, b"token_ids": _WHOLE, b"bytes": _LIST}
# A quotation mark cannot stand unescaped inside a string, so these are keys.
_VALUE = re.compile(rb'"(?:(?:logprob|sequence_number)": ?|(?:bytes|token_ids)": ?\[)(?=[-\d])')
PROBE = "a plain word"


class Known(NamedTuple):
    """What an event says: its text, and its token where it tells one by number."""

    text: str
    token: int | None
    event: bytes
    """As the client may see it, without the token."""


class Run(NamedTuple):
    """Events in a row: as the client may see them, their texts, their tokens (none where tokens are not read)."""

    events: list[bytes]
    texts: list[str]
    tokens: list[int]


class Pattern:
    """The bytes of one event around its text and its numbers: `start`, what varies and what is in between, `end`."""

    __slots__ = ("_comma", "_end", "_numbers", "_spells", "_start", "_varying")

    def __init__(self, start: bytes, varying: re.Pattern[bytes], end: bytes, comma: str) -> None:
        self._start, self._varying, self._end, self._comma = start, varying, end, comma
        self._spells = "bytes" in varying.groupindex
        self._numbers = "token_ids" in varying.groupindex

    @classmethod
    def of(cls, event: bytes, text: str, holds: Callable[[bytes], bool]) -> Pattern | None:
        """Of an event that repeats no key (`keys.py`); None where it cannot be told what may vary.

        Args:
            holds: whether an event, as the client may see it, says what this one does with `PROBE` for its text: a
                string that equals the text by chance would vary with it.
        """
        word = text.encode()
        if PLAIN.fullmatch(word) is None:
            return None
        start, *others = event.split(b'"%b"' % word)
        if not others:
            return None
        varying, end, comma = b"(?P<text>%b)" % PLAIN.pattern, b'"', ","
        for place, piece in enumerate(others):
            if place:
                varying += re.escape(end + b'"') + b"(?P=text)"
                end = b'"'
            done = 0
            for key in _VALUE.finditer(piece):
                name = key[0][1:].partition(b'"')[0]
                value = _VALUES[name].match(piece, key.end())
                if value is None or (name == b"token_ids" and piece[value.end() :][:1] != b"]"):
                    return None
                varying += re.escape(end + piece[done : key.end()])
                varying += (
                    b"(?P=%b)" % name if b"(?P<%b>" % name in varying else b"(?P<%b>%b)" % (name, value.re.pattern)
                )
                comma = ", " if b", " in value[0] else comma
                end, done = b"", value.end()
            end += piece[done:]
        pattern = cls(start + b'"', _compiled(varying), end, comma)
        known = pattern.read(pattern._with(event, word, PROBE.encode()))
        return pattern if known is not None and pattern.read(event) is not None and holds(known.event) else None

    def run(self, events: list[bytes], first: int) -> Run:
        """What the events say from the `first` on, up to one that is not like this one."""
        found = Run([], [], [])
        for event in events[first:] if first else events:
            known = self.read(event)
            if known is None:
                break
            found.events.append(known.event)
            found.texts.append(known.text)
            if known.token is not None:
                found.tokens.append(known.token)
        return found

    def read(self, event: bytes) -> Known | None:
        """What an event says that is like this one; None: it is not."""
        if not (event.startswith(self._start) and event.endswith(self._end)):
            return None
        found = self._varying.match(event, len(self._start))
        if found is None or found.end() != len(event) - len(self._end):
            return None
        word = found[1]
        if self._spells and found["bytes"] != self._spelled(word):
            return None
        if not self._numbers:
            return Known(word.decode(), None, event)
        start, end = found.span("token_ids")
        return Known(word.decode(), int(event[start:end]), b"%bnull%b" % (event[: start - 1], event[end + 1 :]))

    def _spelled(self, word: bytes) -> bytes:
        return str(list(word))[1:-1].replace(", ", self._comma).encode()

    def _with(self, event: bytes, word: bytes, other: bytes) -> bytes:
        event = event.replace(b'"%b"' % word, b'"%b"' % other)
        return event.replace(b"[%b]" % self._spelled(word), b"[%b]" % self._spelled(other))


@lru_cache(maxsize=64)
def _compiled(varying: bytes) -> re.Pattern[bytes]:
    """An engine writes the same around what varies in all its answers: `start` and `end` name the answer."""
    return re.compile(varying)
