"""The transducer: text goes in as it comes, cleaned text comes out as soon as nothing can change it any more.

    raw text -> visible (no invisible characters) -> folded, for the detectors -> released, values replaced

What is released depends on the text alone, not on how it was cut: every detector says up to where its findings are
settled, and nothing beyond the least of these places is decided. Values are replaced in the order they begin; of one
that overlaps the value before it, what sticks out is replaced too. A value of any length (a private key) is replaced
as soon as it is certain, and swallowed until it ends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from serving.guard.detector import CONTEXT, Detector, Rest
from serving.guard.outcome import Action, GuardReport
from serving.guard.text.folding import fold
from serving.guard.text.values import SeenValues, Vault
from serving.guard.text.visible import VisibleText

MAX_HELD = 768
"""Most characters ever held back: an escape sequence (259) and the longest value still undecided (an address, 320)."""

MAX_COMPARED = 4096
"""Longest value that is compared with those of the question; it is held back until its end."""

_WORD = r"[A-Za-z']{0,15}+\.?+"
_PLAIN = re.compile(rf"((?>(?:{_WORD}[ \n\t,;:!?\"*)\]\[{{}}<>=#|]++)*))({_WORD})")
"""Ordinary words and what stands between them, and the word that may go on. Detectors need not see it."""

_PENDING = re.compile(_WORD)

_NUMBERS = frozenset({"CARD_NUMBER", "PHONE_NUMBER"})
_JSON_NUMBER = re.compile(r'(?<!\\)"\s{0,4}:\s{0,8}(?:\[[\s\d.,eE+-]*)?\Z')
"""What stands before a number in JSON: a key's colon, and perhaps the beginning of an array of numbers."""


def is_plain(text: str) -> bool:
    """Whether a whole text is ordinary ASCII words and what stands between them.

    Such a text holds nothing invisible, and no value of a detector that `skips_plain_words`.
    """
    return _PLAIN.fullmatch(text) is not None


PROSE = re.compile(rf"(?>(?:{_WORD}[ \n\t,;:?\"*){{}}=#|]++)*)({_WORD})")
"""Ordinary words and what stands between them, without the signs that markup may begin with; then the word that may go
on. A stage that is `at_rest` releases such a text as it is, but for that word, and is at rest then."""


MASK_ALL: Mapping[str, Action] = {}


class _Value:
    """A value that was found and not wholly dealt with yet."""

    __slots__ = ("announced", "detector", "end", "rest", "start")

    def __init__(self, detector: int, start: int, end: int, rest: Rest | None) -> None:
        self.detector = detector
        self.start = start
        self.end = end
        self.rest = rest  # None once the end is known
        self.announced = False


class StreamCleaner:
    """Cleans one text that comes in pieces.

    `"".join(feed(piece) …) + finish()` is the same for every cutting of a text.
    """

    __slots__ = (
        "_actions",
        "_at",
        "_detectors",
        "_done",
        "_fold",
        "_last",
        "_left",
        "_patient",
        "_report",
        "_seen",
        "_text",
        "_values",
        "_vault",
        "_visible",
        "_word",
    )

    def __init__(
        self,
        detectors: Sequence[Detector],
        actions: Mapping[str, Action] = MASK_ALL,
        vault: Vault | None = None,
        seen: SeenValues | None = None,
    ) -> None:
        """`actions`: what is done with each entity, `mask` where it is not among them.

        `pseudonymize` needs a `vault`, and a text that is given to `whole`; `mask_new` needs what was `seen`.
        """
        self._detectors = detectors
        self._actions = actions
        self._vault = vault
        self._seen = seen
        self._patient = all(detector.skips_plain_words for detector in detectors)
        self._visible = VisibleText()
        self._report = GuardReport()
        # Ordinary prose lives in these two: what was released last (folded), and the word that may go on.
        # While something else is held, `_word` is None and the fields below hold it.
        self._left = ""
        self._word: str | None = ""
        self._text = self._fold = ""
        self._done = 0  # released, replaced or swallowed up to here
        self._at = [0] * len(detectors)  # settled up to here, for each detector
        self._values: list[_Value] = []  # found and not wholly dealt with, in the order they begin
        self._last = ""  # entity of the value that was replaced last

    def __repr__(self) -> str:
        return f"StreamCleaner(held={self.held})"

    @property
    def report(self) -> GuardReport:
        """What was done so far."""
        return self._report

    @property
    def held(self) -> int:
        """Characters held back that may yet be released as they are; what is being swallowed does not count."""
        if self._word is not None:
            return len(self._word) + self._visible.held
        swallowing = bool(self._values) and self._values[0].announced
        return self._visible.held + (0 if swallowing else len(self._text) - self._done)

    @property
    def at_rest(self) -> bool:
        """Whether ordinary words pass, whatever came before (see `PROSE`)."""
        return self._word is not None and self._patient and not self._visible.held

    def feed(self, text: str) -> str:
        """Take the next piece.

        Returns:
            the text that may be released now; often of the piece before.
        """
        word = self._word
        if word is not None and self._patient and not self._visible.held:
            plain = _PLAIN.fullmatch(word + text)
            if plain is not None:
                released, self._word = plain.groups()
                left = self._left + released
                self._left = left if len(left) < 512 else left[-CONTEXT:]
                self._visible.context = text or self._visible.context
                return released
        return self._advance(self._visible.feed(text), final=False)

    def whole(self, text: str) -> str:
        """A text that is complete, in place of `feed` and `finish`: the end of every value is known."""
        if self._patient and is_plain(text):
            return text
        return self._close(self._advance(self._visible.feed(text) + self._visible.finish(), final=True))

    def finish(self) -> str:
        """The rest; nothing follows."""
        if self._word is not None and not self._visible.held:
            word, self._word = self._word, ""
            return self._close(word)
        return self._close(self._advance(self._visible.finish(), final=True))

    def _close(self, released: str) -> str:
        self._report.add("invisible", "strip", self._visible.num_removed)
        self._visible.num_removed = 0
        return released

    def _advance(self, text: str, *, final: bool) -> str:
        if self._word is not None:
            self._leave_prose(self._word)
        self._text += text
        self._fold += fold(text)
        self._detect(final)
        released = self._release(final)
        self._trim()
        return released

    def _leave_prose(self, word: str) -> None:
        left = self._left[-CONTEXT:]
        self._text = self._fold = left + word  # the left part serves as context only: folded is as good
        self._done = len(left)
        self._at = [self._done] * len(self._detectors)
        self._word = None

    def _detect(self, final: bool) -> None:
        text = self._fold
        growing = {value.detector: value for value in self._values if value.rest is not None}
        values = []
        for number, detector in enumerate(self._detectors):
            value = growing.get(number)
            if value is not None and value.rest is not None:
                value.end, still_open = value.rest(text, value.end, final)
                self._at[number] = value.end
                if still_open:
                    continue
                value.rest = None
            spans, self._at[number] = detector.scan(text, self._at[number], final)
            values += [_Value(number, *span) for span in spans]
        if values:
            self._values += values
            self._values.sort(key=lambda value: (value.start, value.detector))

    def _release(self, final: bool) -> str:
        size = len(self._text)
        settled = size if final else min(self._at, default=size)
        pieces: list[str] = []
        values = self._values
        number = 0
        while number < len(values) and (values[number].start < settled or final):
            value = values[number]
            if value.rest is not None and self._awaits_end(value):
                break
            if value.announced or value.end > self._done:
                self._replace(value, pieces)
            if value.rest is not None:
                # What follows is swallowed, or waits for its end; so do the values within.
                self._values = [value for value in values[number:] if value.rest is not None or value.end > self._done]
                return "".join(pieces)
            number += 1
        del values[:number]
        end = max(self._done, min(settled, values[0].start) if values else settled)
        pieces.append(self._text[self._done : end])
        self._done = end
        return "".join(pieces)

    def _replace(self, value: _Value, pieces: list[str]) -> None:
        """Put the mask for a value, once, after what stands before it."""
        if not value.announced:
            pieces.append(self._text[self._done : max(self._done, value.start)])
            entity = self._detectors[value.detector].entity
            action = self._actions.get(entity, "mask")
            if action in ("pseudonymize", "mask_new") and (text := self._kept(value, entity, action)) is not None:
                pieces.append(text)
            elif value.start >= self._done or entity != self._last:
                pieces.append(self._as_json(value, entity, f"[{entity}]"))
                self._report.add(entity, "mask" if action == "mask_new" else action)
            self._last = entity
            value.announced = True
        self._done = max(self._done, value.end)

    def _awaits_end(self, value: _Value) -> bool:
        """Whether a value that may go on has to be compared with those of the question, so that its end matters."""
        if value.end - value.start > MAX_COMPARED:
            return False
        return self._actions.get(self._detectors[value.detector].entity) == "mask_new"

    def _kept(self, value: _Value, entity: str, action: Action) -> str | None:
        """What carries a value on: its placeholder, or the value itself where the question held it."""
        text = self._text[max(self._done, value.start) : value.end]
        if action == "pseudonymize" and self._vault is not None:
            self._report.add(entity, action)
            return self._as_json(value, entity, self._vault.placeholder(entity, text))
        whole = self._text[value.start : value.end]
        if self._seen is None or value.rest is not None or len(whole) > MAX_COMPARED or whole not in self._seen:
            return None
        self._report.add(entity, "repeat")
        return text

    def _as_json(self, value: _Value, entity: str, mask: str) -> str:
        if value.start < self._done or entity not in _NUMBERS or not self._fold[value.start : value.end].isdigit():
            return mask
        # A bare number in JSON becomes a string, or the mask would end the JSON there.
        before = self._fold[max(0, value.start - CONTEXT) : value.start]
        return f'"{mask}"' if _JSON_NUMBER.search(before) else mask

    def _trim(self) -> None:
        """Forget what nothing depends on; ordinary prose goes back to its two fields."""
        done = self._done
        if not self._values and self._patient and min(self._at, default=done) >= done:
            pending = self._text[done:]
            if _PENDING.fullmatch(pending):
                self._left, self._word = self._fold[max(0, done - CONTEXT) : done], pending
                self._text = self._fold = ""
                return
        starts = [value.start for value in self._values if not value.announced]
        cut = min([done, *self._at, *starts]) - CONTEXT
        if cut < 512:
            return
        self._text, self._fold = self._text[cut:], self._fold[cut:]
        self._done -= cut
        self._at = [place - cut for place in self._at]
        for value in self._values:
            value.start -= cut
            value.end -= cut
