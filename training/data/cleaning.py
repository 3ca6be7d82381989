"""What is put right in a text: hidden characters, misread UTF-8, Unicode's form, spaces, boilerplate, personal data."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection

import numpy as np

from serving.guard.detectors import default_detectors
from serving.guard.settings import EntityActions
from serving.guard.text.stream import StreamCleaner
from serving.guard.text.visible import VisibleText
from training.data.words import hash_text
from training.errors import RecipeError
from training.recipes.data import CleanSettings

# UTF-8's bytes of two to four, as Windows-1252 shows them. An upper-case letter before them is a word that ends so.
_MISREAD = re.compile(
    "(?<![A-ZÀ-ÖØ-Þ])(?:[ÂÃ][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—˜™š›œžŸŽ]|â[€‚„†ˆ‰‹Œ][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—˜™š›œžŸŽ]"
    "|ð[Ÿ\x9f][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—˜™š›œžŸŽ]{2})+"
)
_LINE_END = re.compile(r"\r\n?|[\u2028\u2029\x85]")
_LINE_TAIL = re.compile(r"[ \t\u00a0]+(?=\n)")
_BLANK_LINES = re.compile(r"\n{3,}")


class Cleaner:
    """Cleans texts as the settings say."""

    def __init__(self, settings: CleanSettings, boilerplate: LineCounts | None = None) -> None:
        self._steps: list[Callable[[str], str]] = []
        if settings.repair:  # first: what was misread may look like control characters
            self._steps.append(repaired)
        if settings.hidden_characters:
            self._steps.append(_visible)
        if settings.compose:
            self._steps.append(lambda text: unicodedata.normalize("NFC", text))
        if boilerplate is not None and settings.boilerplate is not None:
            counts, share = boilerplate, settings.boilerplate
            self._steps.append(lambda text: counts.without(text, share))
        if settings.spaces:
            self._steps.append(_spaced)

    def __call__(self, text: str) -> str:
        """The clean text; all of it where there is nothing to do."""
        for step in self._steps:
            text = step(text)
        return text


def _visible(text: str) -> str:
    stream = VisibleText()
    return stream.feed(_LINE_END.sub("\n", text)) + stream.finish()


def repaired(text: str) -> str:
    """`text` without UTF-8 that was decoded as Windows-1252, as far as that is certain by its shape."""
    return text if text.isascii() else _MISREAD.sub(lambda match: _decoded(match[0]), text)


def _decoded(misread: str) -> str:
    # Windows-1252 leaves five bytes undefined, which readers show as Latin-1's.
    content = b"".join(
        sign.encode("latin-1") if sign <= "\xff" else sign.encode("cp1252", "replace") for sign in misread
    )
    try:
        return content.decode()
    except UnicodeDecodeError:
        return misread


def _spaced(text: str) -> str:
    return _BLANK_LINES.sub("\n\n", _LINE_TAIL.sub("", _LINE_END.sub("\n", text) + "\n")).strip()


class LineCounts:
    """In how many texts a line stands, counted in 32 MiB however many there are; never too few, seldom too many.

    Source: Cormode and Muthukrishnan 2005, "An improved data stream summary: the count-min sketch".
    """

    _SHORTEST = 12  # characters: a brace or a number may stand anywhere

    def __init__(self) -> None:
        self._counts = np.zeros((2, 1 << 22), np.uint32)
        self._num_texts = 0

    def add(self, text: str) -> None:
        """A text's lines, each once."""
        self._num_texts += 1
        for line in {line.strip() for line in text.splitlines()}:
            if len(line) >= self._SHORTEST:
                self._counts[(0, 1), self._places(line)] += 1

    def without(self, text: str, share: float) -> str:
        """The text without lines that stand in at least this part of more than ten texts."""
        least = max(share * self._num_texts, 10)
        lines = text.split("\n")
        kept = [
            line
            for line in lines
            if len(line.strip()) < self._SHORTEST or self._counts[(0, 1), self._places(line.strip())].min() < least
        ]
        return text if len(kept) == len(lines) else "\n".join(kept)

    def _places(self, line: str) -> tuple[int, int]:
        key, size = hash_text(line), self._counts.shape[1]
        return key % size, (key >> 32) % size


def usual_kinds() -> frozenset[str]:
    """What a gateway masks in questions unless it is told otherwise."""
    return EntityActions().masked()


class PersonalData:
    """Masks texts, and counts what it masked."""

    def __init__(self, kinds: Collection[str] | None = None) -> None:
        """`kinds`: which; all that there are where it is None. Raises RecipeError for one that there is not."""
        known = {detector.entity for detector in default_detectors()}
        for kind in kinds or ():
            if kind not in known:
                raise RecipeError(f"personal.kinds: {kind!r} is not one of {', '.join(sorted(known))}")
        self._detectors = tuple(
            detector for detector in default_detectors() if kinds is None or detector.entity in kinds
        )
        self.counts: Counter[str] = Counter()
        """By kind, how many values were masked."""

    def mask(self, text: str) -> str:
        """The text with `[EMAIL_ADDRESS]` and the like in place of values."""
        cleaner = StreamCleaner(self._detectors)
        masked = cleaner.whole(text)
        for (kind, action), count in cleaner.report.counts.items():
            if action == "mask":
                self.counts[kind] += count
        return masked
