"""Events that differ from an earlier one in text and token only: read by comparing bytes, not by parsing.

An engine writes one event again and again, with another word in it. What the parsing of one of them has shown holds
for every event with the same bytes around the word, as long as the word itself is written plainly.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from serving.gateway.streams.chunks import UNREADABLE, Channel, decode_usual, texts_of
from serving.gateway.streams.numeric_template import NO_MATCHES, PLAIN, MatchedEvent, MatchedRun
from serving.gateway.streams.tokens import TOKENS, TokenTap
from serving.http.sse import event_data

_OPENINGS: dict[Channel, bytes] = {("content", 0): b'"content":"', ("text", 0): b'"text":"'}
_PROBE = "a plain word"
# A token's number that fits whatever it is kept in.
_NUMBER = rb"\d{1,9}"


class EventTemplate:
    """The bytes around text and token of one event: `start` TEXT `between` TOKEN `end`, or `start` TEXT `end`."""

    __slots__ = ("_end", "_shown_end", "_start", "_varying", "channel", "index")

    def __init__(self, start: bytes, between: bytes, end: bytes, index: int, channel: Channel, hides: bool) -> None:
        self._start, self._varying, self._end = start, _varying(between), end
        # Where the client did not ask for tokens, what follows its text in an event without them.
        self._shown_end = between[:-1] + b"null" + end[1:] if hides else b""
        self.index = index
        self.channel = channel

    @classmethod
    def of(cls, event: bytes, index: int, channel: Channel, text: str, tap: TokenTap | None) -> EventTemplate | None:
        """What is around the one text of an event that came from the engine; None where that cannot be told.

        `tap` is the reader of the answer's tokens, if they are read.
        """
        opening = _OPENINGS.get(channel)
        if opening is None or b"\n" in event or (tap is not None and not (tap.knows_prompts and tap.hides)):
            return None
        start, separator, rest = event.partition(opening)
        start += separator
        word = text.encode()
        if not rest.startswith(word + b'"'):
            return None
        between, end = b"", rest[len(word) :]
        if tap is not None:
            before, separator, token = end.rpartition(TOKENS)
            digits, closing, after = token.partition(b"]")
            if not separator or not digits.isdigit():
                return None
            between, end = before + separator, closing + after
        template = cls(start, between, end, index, channel, hides=tap is not None and tap.hides)
        return template if template._holds() else None

    def read(self, event: bytes) -> MatchedEvent | None:
        """The text and token of one event; None: it does not match, or its text is not plain."""
        if not (event.startswith(self._start) and event.endswith(self._end)):
            return None
        varies = self._varying.fullmatch(event, len(self._start), len(event) - len(self._end))
        if varies is None:
            return None
        word, token = varies.groups()
        if not token:
            return MatchedEvent(word.decode(), None, event)
        if self._shown_end:
            event = self._start + word + self._shown_end
        return MatchedEvent(word.decode(), int(token), event)

    def run(self, events: list[bytes], first: int) -> MatchedRun:
        """The texts and tokens of the events from the `first` on, up to one that does not match."""
        start, end, shown_end = self._start, self._end, self._shown_end
        size, tail, match = len(start), len(end), self._varying.fullmatch
        matches: list[tuple[bytes | Any, ...]] = []
        for event in events[first:] if first else events:
            if not (event.startswith(start) and event.endswith(end)):
                break
            varies = match(event, size, len(event) - tail)
            if varies is None:
                break
            matches.append(varies.groups())
        if not matches:
            return NO_MATCHES
        words, tokens = zip(*matches, strict=True)
        taken = [start + word + shown_end for word in words] if shown_end else events[first : first + len(matches)]
        texts = b"\n".join(words).decode().split("\n")  # no plain text has a line break
        return MatchedRun(taken, texts, list(map(int, filter(None, tokens))), [])

    def _holds(self) -> bool:
        """Whether a text put into the template is the text that parsing finds: it might stand in another field."""
        event = self._start + _PROBE.encode() + (self._shown_end or self._end)
        try:
            answer = decode_usual(event_data(event) or b"")
        except UNREADABLE:
            return False
        if len(answer.choices) != 1 or answer.usage is not None:
            return False
        choice = answer.choices[0]
        if choice.logprobs is not None:
            return False
        expected = [(self.channel, _PROBE)]
        return not choice.finish_reason and choice.index == self.index and texts_of(choice) == expected


@lru_cache(maxsize=64)
def _varying(between: bytes) -> re.Pattern[bytes]:
    """TEXT `between` TOKEN, or TEXT: the same in all of an engine's answers."""
    token = rb"%b(%b)" % (re.escape(between), _NUMBER) if between else b"()"
    return re.compile(rb"(%b)%b" % (PLAIN.pattern, token))
