"""The two detectors: runs of words with one tag, joined over what may stand within a name or an address."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable
from operator import attrgetter

from serving.guard.detector import Span
from serving.guard.ner.model import Model, shipped
from serving.guard.ner.tagged_text import ADDRESS, NAME, TaggedText
from serving.guard.ner.words import Word

_PARTICLES = frozenset(
    ("al", "bin", "da", "de", "del", "den", "der", "di", "dos", "el", "la", "le", "ter", "van", "von", "y")
)
_JOINTS = frozenset("-'.,\n/#()>")
_POSTAL_CODE = re.compile(r"(?!(?:19|20)\d\d\Z)\d{4,6}", re.ASCII)
_CODE_BEFORE = tuple(",)")
_CODE_AFTER = tuple("\n.,;)\"'")
_MAX_NAME, _MAX_ADDRESS = 64, 192
"""Characters after which a span ends: they bound what is held back. Longer ones go on as the next."""

_start = attrgetter("start")


class _Tagged(ABC):
    """Spans of one tag. Both detectors of a text share what was read of it."""

    skips_plain_words = False
    entity: str
    _tag: int
    _max_chars: int
    _max_bridged: int
    _max_until_code: int
    """Words that may stand before what ends a span, tagged or not."""

    def __init__(self, model: Callable[[], Model] = shipped) -> None:
        self._model = model

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        tagged = _read(self._model(), text, final)
        words, settled = tagged.words, tagged.num_settled
        spans: list[Span] = []
        number = bisect_left(words, start, key=_start)
        while number < settled:
            if tagged.tag(number) != self._tag:
                number += 1
                continue
            last, ended = self._follow(tagged, number)
            if not ended and not final:
                return spans, words[number].start
            span = self._span(words[number : last + 1])
            if span is not None:
                spans.append(span)
            number = last + 1
        if final:
            return spans, len(text)
        if number < len(words):
            return spans, max(start, words[number].start)
        return spans, max(start, words[-1].end if words else 0)

    def _follow(self, tagged: TaggedText, first: int) -> tuple[int, bool]:
        """The last word of the span that begins with word `first`, and whether that is certain."""
        words, last, bridged = tagged.words, first, 0
        for number in range(first + 1, tagged.num_settled):
            if words[number].end - words[first].start > self._max_chars:
                return last, True
            if self._goes_on(tagged, number, bridged):
                last, bridged = number, 0
            elif bridged < self._max_until_code and self._may_bridge(words[number].text):
                bridged += 1
            else:
                return last, True
        return last, False

    def _goes_on(self, tagged: TaggedText, number: int, bridged: int) -> bool:
        """Whether a span goes on with this word, behind so many that are not tagged."""
        return bridged <= self._max_bridged and tagged.tag(number) == self._tag

    @abstractmethod
    def _may_bridge(self, word: str) -> bool:
        """Whether a span may go on behind this word, which is not tagged."""

    @abstractmethod
    def _span(self, words: list[Word]) -> Span | None:
        """What is masked of these words; None: nothing."""


class PersonNames(_Tagged):
    """Names of persons, whole or in part; titles before them stay."""

    entity = "PERSON_NAME"
    _tag = NAME
    _max_chars = _MAX_NAME
    _max_bridged = _max_until_code = 2

    def _may_bridge(self, word: str) -> bool:
        return word in "-'." or word in _PARTICLES

    def _span(self, words: list[Word]) -> Span | None:
        words = _trimmed(words)
        if not any(len(word.text) > 1 for word in words):
            return None
        return Span(words[0].start, words[-1].end)


class StreetAddresses(_Tagged):
    """Addresses: street and number, flat, post box, with postal code, town and country where they follow."""

    entity = "STREET_ADDRESS"
    _tag = ADDRESS
    _max_chars = _MAX_ADDRESS
    _max_bridged = 3
    _max_until_code = 9

    def _may_bridge(self, word: str) -> bool:
        return word in _JOINTS or word in _PARTICLES or word[:1].isupper() or word.isdigit()

    def _goes_on(self, tagged: TaggedText, number: int, bridged: int) -> bool:
        return super()._goes_on(tagged, number, bridged) or self._is_postal_code(tagged.words, number)

    def _is_postal_code(self, words: list[Word], number: int) -> bool:
        """Whether it is one at the end of a line or sentence, behind a town or country."""
        before = words[number - 1].text
        after = words[number + 1].text if number + 1 < len(words) else "\n"
        is_code = _POSTAL_CODE.fullmatch(words[number].text) is not None
        return is_code and (before in _CODE_BEFORE or before.isalpha()) and after in _CODE_AFTER

    def _span(self, words: list[Word]) -> Span | None:
        words = _trimmed(words)
        long = sum(len(word.text) > 1 for word in words)
        if long < 2 and not (long == 1 and len(words) > 1 and any(word.text.isdigit() for word in words)):
            return None
        return Span(words[0].start, words[-1].end)


def _trimmed(words: list[Word]) -> list[Word]:
    """Without signs at either end."""
    first, last = 0, len(words)
    while first < last and not words[first].text.isalnum():
        first += 1
    while last > first and not words[last - 1].text.isalnum():
        last -= 1
    return words[first:last]


_last: TaggedText | None = None


def _read(model: Model, text: str, final: bool) -> TaggedText:
    """The reading of a text, the same for both detectors where they look at one text after the other."""
    global _last
    tagged = _last
    if tagged is None or tagged.text is not text or tagged.final != final or tagged.model is not model:
        tagged = _last = TaggedText(model, text, final)
    return tagged
