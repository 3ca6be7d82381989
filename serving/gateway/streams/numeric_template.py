"""Events that differ from an earlier one in their text and in numbers: known by the bytes in between, and not parsed.

The text may stand in several fields, as it does where an event also tells its token. What the parsing of the earlier
event has shown holds for every one with the same bytes around text and numbers, as long as both are written plainly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

# What one of them has to be, in JSON (RFC 8259): a text without escapes, and numbers that any parser can hold.
PLAIN = re.compile(rb"[ !#-\[\]-~]++")
_NUMBER = re.compile(rb"-?(?:0|[1-9]\d{0,15})(?:\.\d{1,24})?(?:[eE][+-]?\d{1,2})?")
_WHOLE = re.compile(rb"(?:0|[1-9]\d{0,8})")
_LIST = re.compile(rb"\d[\d, ]*+")
_VALUES = {b"logprob": _NUMBER, b"sequence_number": _WHOLE, b"token_ids": _WHOLE, b"bytes": _LIST}
# A quotation mark cannot stand unescaped inside a string, so these are keys.
_VALUE = re.compile(rb'"(?:(?:logprob|sequence_number)": ?|(?:bytes|token_ids)": ?\[)(?=[-\d])')
_NO_OTHERS = re.compile(rb'"top_logprobs": ?\[(?=\])')
_ESCAPED_NO_OTHERS = re.compile(rb'("top_logprobs":(?:\\ )?\\\[)(?=\\\]|\Z)')
# What is said of alternatives, which is read by itself: up to the first end of a list of bytes that ends all of them.
# Atomic groups: before Python 3.11.5, possessive repeats of groups within groups miss matches (CPython issue 106052).
_OTHERS = rb"(?>(?:(?>(?:[^\]]++\](?!\}\]))*)[^\]]++\]\})?)"
_ANY_OTHERS = rb"(?P<others>%b)" % _OTHERS
_RANKED = re.compile(rb'("top_logprobs": ?\[)%b(?=\])' % _OTHERS)
_WRITTEN = [b"%d" % byte for byte in range(256)]
_LONG_TOKEN = 48
_MOST_TOKENS = 8192
PROBE = "a plain word"


class _Other(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An alternative to a token; its bytes as they are written."""

    token: str
    logprob: float
    bytes: msgspec.Raw


_decode_others = msgspec.json.Decoder(list[_Other]).decode


class MatchedEvent(NamedTuple):
    """What an event says: its text, and its token where it tells one by number."""

    text: str
    token: int | None
    event: bytes
    """As the client may see it, without the token."""
    ranks: Sequence[str] = ()
    """The alternatives to its token."""


class MatchedRun(NamedTuple):
    """Events in a row: as the client may see them, their texts, their tokens (none where tokens are not read)."""

    events: list[bytes]
    texts: list[str]
    tokens: list[int]
    ranks: list[Sequence[str]]
    """The alternatives of each, if they may have any."""


NO_MATCHES = MatchedRun([], [], [], [])


class NumericTemplate:
    """The bytes of one event around its text and its numbers: `start`, what varies and what is in between, `end`."""

    __slots__ = ("_comma", "_end", "_numbers", "_ranked", "_spells", "_start", "_varying")

    def __init__(self, start: bytes, varying: re.Pattern[bytes], end: bytes, comma: bytes) -> None:
        self._start, self._varying, self._end, self._comma = start, varying, end, comma
        groups = varying.groupindex
        self._spells, self._numbers, self._ranked = (groups.get(name, 0) for name in ("bytes", "token_ids", "others"))

    @classmethod
    def of(cls, event: bytes, text: str, holds: Callable[[bytes], bool]) -> NumericTemplate | None:
        """Of an event that repeats no key (`duplicate_keys.py`); None where it cannot be told what may vary.

        Args:
            holds: whether an event, as the client may see it, says what this one does with `PROBE` for its text: a
                string that equals the text by chance would vary with it.
        """
        word = text.encode()
        if PLAIN.fullmatch(word) is None:
            return None
        # What is said of alternatives varies as a whole.
        event = _RANKED.sub(rb"\1", event)
        start, *others = event.split(b'"%b"' % word)
        if not others:
            return None
        varying, end, comma = b"(?P<text>%b)" % PLAIN.pattern, b'"', b","
        for index, piece in enumerate(others):
            if index:
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
                comma = b", " if b", " in value[0] else comma
                end, done = b"", value.end()
            end += piece[done:]
        if (ranked := _NO_OTHERS.search(end)) is not None:
            varying, end = varying + re.escape(end[: ranked.end()]), end[ranked.end() :]
        varying, num_ranked = _ESCAPED_NO_OTHERS.subn(lambda match: match[1] + _ANY_OTHERS, varying)
        if num_ranked > 1:
            return None
        template = cls(start + b'"', _compiled(varying), end, comma)
        matched = template.read(template._with(event, word, PROBE.encode()))
        return template if matched is not None and template.read(event) is not None and holds(matched.event) else None

    def run(self, events: list[bytes], first: int) -> MatchedRun:
        """What the events say from the `first` on, up to one that is not like this one."""
        matches = MatchedRun([], [], [], [])
        for event in events[first:] if first else events:
            matched = self.read(event)
            if matched is None:
                break
            matches.events.append(matched.event)
            matches.texts.append(matched.text)
            if matched.token is not None:
                matches.tokens.append(matched.token)
            if self._ranked:
                matches.ranks.append(matched.ranks)
        return matches

    def read(self, event: bytes) -> MatchedEvent | None:
        """What an event says that is like this one; None: it is not."""
        if not (event.startswith(self._start) and event.endswith(self._end)):
            return None
        match = self._varying.match(event, len(self._start))
        if match is None or match.end() != len(event) - len(self._end):
            return None
        word, comma = match[1], self._comma
        if self._spells and match[self._spells] != _spelled(word, comma):
            return None
        ranks: Sequence[str] = ()
        if self._ranked and (others := match[self._ranked]):
            tokens = _alternatives(others)
            if tokens is None:
                return None
            ranks = tokens
        if not self._numbers:
            return MatchedEvent(word.decode(), None, event, ranks)
        start, end = match.span(self._numbers)
        shown = b"%bnull%b" % (event[: start - 1], event[end + 1 :])
        return MatchedEvent(word.decode(), int(event[start:end]), shown, ranks)

    def _with(self, event: bytes, word: bytes, other: bytes) -> bytes:
        event = event.replace(b'"%b"' % word, b'"%b"' % other)
        return event.replace(b"[%b]" % _spelled(word, self._comma), b"[%b]" % _spelled(other, self._comma))


def _alternatives(others: bytes) -> list[str] | None:
    """The tokens that are told in a list of alternatives; None: that is not all that it says."""
    # Not `in`, which first takes what it looks for for a number, and raises: four times the cost.
    if not others.isascii() or others.find(b"\\") >= 0 or others.find(b"\n") >= 0:
        return None
    try:
        decoded = _decode_others(b"[%b]" % others)
    except msgspec.DecodeError:
        return None
    tokens, num_colons = [], others.count(b":") - 3 * len(decoded)
    for alternative in decoded:
        token = alternative.token
        if alternative.bytes != _told_bytes.get(token) and not _spells(alternative.bytes, token):
            return None
        tokens.append(token)
    # Each has all three fields, so that one more colon outside of the tokens is a key that is there twice.
    return tokens if not num_colons or num_colons == "".join(tokens).count(":") else None


def _spelled(word: bytes, comma: bytes) -> bytes:
    """A word's bytes as an engine writes them."""
    return _spelled_token(word, comma) if len(word) <= _LONG_TOKEN else _spell(word, comma)


def _spell(word: bytes, comma: bytes) -> bytes:
    return comma.join([_WRITTEN[byte] for byte in word])


# Tokens are the same few words of a vocabulary again and again.
_spelled_token = lru_cache(maxsize=_MOST_TOKENS)(_spell)


_told_bytes: dict[str, msgspec.Raw] = {}
"""Of tokens that have been told: their bytes, as they were written last."""


def _spells(written: msgspec.Raw, token: str) -> bool:
    """Whether a list of bytes, as an engine writes it, spells a token."""
    own = bytes(written)
    if own not in (b"[%b]" % _spell(token.encode(), comma) for comma in (b",", b", ")):
        return False
    if len(token) <= _LONG_TOKEN:
        if len(_told_bytes) >= _MOST_TOKENS:
            _told_bytes.clear()
        # A copy: the other is a view of the whole event.
        _told_bytes[token] = msgspec.Raw(own)
    return True


@lru_cache(maxsize=64)
def _compiled(varying: bytes) -> re.Pattern[bytes]:
    """An engine writes the same around what varies in all its answers: `start` and `end` name the answer."""
    return re.compile(varying)
