"""Masks in a text that comes in pieces: what principles look for is replaced, the same for every cutting.

It stands behind the guard's transducer and gets what that releases, so the text holds nothing invisible any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from serving.guard.answer.answer import Answers, TextStream
from serving.guard.outcome import GuardReport
from serving.guard.policy.patterns import MAX_MASKED_CHARS, Words, compile_all, readable

_KEPT = 2 * MAX_MASKED_CHARS


class Mask(NamedTuple):
    """What one principle looks for, and what it puts there."""

    name: str
    words: Words


class Masks:
    """The masks of several principles, in their order."""

    def __init__(self, masks: Sequence[Mask], *, streams: bool) -> None:
        """`streams`: `stream` will be called. Raises: PatternError."""
        self._names = [mask.name for mask in masks]
        self._finder = compile_all([mask.words for mask in masks], bounded=streams)

    def __bool__(self) -> bool:
        return bool(self._names)

    def whole(self, text: str, report: GuardReport) -> str:
        """A complete text with everything replaced."""
        pieces, done, _ = self.replace(text, 0, final=True, report=report)
        return "".join((*pieces, text[done:]))

    def replace(self, text: str, start: int, *, final: bool, report: GuardReport) -> tuple[list[str], int, int]:
        """Released pieces from `start` on, the place up to which they reach, and up to which nothing can change."""
        plain = readable(text)
        pieces: list[str] = []
        # All at once: each search of its own would encode the whole text anew.
        for match in self._finder.match.finditer(plain, start):
            open_at = len(text) if final else self._open_at(plain, start)
            if match.start() >= open_at:
                return pieces, start, open_at
            name = self._names[self._finder.whose(match)]
            pieces += (text[start : match.start()], f"[{name}]")
            report.add(name, "mask")
            start = match.end()
        return pieces, start, len(text) if final else self._open_at(plain, start)

    def _open_at(self, plain: str, start: int) -> int:
        """Where the first match begins that what follows may yet complete or prolong."""
        begun = self._finder.beginning.search(plain, max(start, len(plain) - MAX_MASKED_CHARS))
        return len(plain) if begun is None else int(begun.start())


class MaskedAnswers:
    """Cleans answers as another does, and then masks."""

    def __init__(self, answers: Answers, masks: Masks) -> None:
        self._answers = answers
        self._masks = masks
        self.blocks = answers.blocks
        self.hides_prompt = answers.hides_prompt

    def clean_text(self, text: str, *, json: bool = False) -> tuple[str, GuardReport]:
        """Clean and mask a whole text."""
        text, report = self._answers.clean_text(text, json=json)
        return self._masks.whole(text, report), report

    def stream(self, *, json: bool = False) -> MaskStream:
        """For one text channel."""
        return MaskStream(self._masks, self._answers.stream(json=json))

    def free_text(self, *, shown: bool) -> MaskedAnswers:
        """The same for texts that are no JSON; `shown`: clients may render them."""
        return MaskedAnswers(self._answers.free_text(shown=shown), self._masks)


class MaskStream:
    """A text's last stage, behind those of the guard."""

    __slots__ = ("_cleaner", "_done", "_masks", "_text", "report")

    def __init__(self, masks: Masks, cleaner: TextStream) -> None:
        self._masks = masks
        self._cleaner = cleaner
        self.report = cleaner.report
        """What was done so far, by the cleaner too."""
        self._text = ""  # what was not released, and before it a little for the boundaries of words
        self._done = 0

    def __repr__(self) -> str:
        return f"MaskStream(held={self.held})"

    @property
    def held(self) -> int:
        """Characters held back that may yet be released as they are."""
        return self._cleaner.held + len(self._text) - self._done

    @property
    def at_rest(self) -> bool:
        return False  # a mask may be of any words

    def feed(self, text: str) -> str:
        """Take the next piece; returns what may be released now."""
        return self._take(self._cleaner.feed(text), final=False)

    def finish(self) -> str:
        """The rest; nothing follows."""
        return self._take(self._cleaner.finish(), final=True)

    def _take(self, text: str, *, final: bool) -> str:
        self._text += text
        pieces, done, settled = self._masks.replace(self._text, self._done, final=final, report=self.report)
        pieces.append(self._text[done:settled])
        self._done = settled
        if self._done > _KEPT:
            self._text, self._done = self._text[self._done - 1 :], 1
        return "".join(pieces)
