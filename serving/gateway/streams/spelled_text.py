"""One text that details of tokens spell, and what of it a guard would change."""

from __future__ import annotations

from serving.guard import TextStream
from serving.guard.text.stream import PROSE

# Ordinary words that wait to be read together: enough to make up for the call.
_MOST_LATER = 2048


class SpelledText:
    """One text that details spell, and how far the guard has released it as it is."""

    __slots__ = ("_cleaner", "_later", "_raw", "changes", "fed", "settled", "word")

    def __init__(self, cleaner: TextStream, start: int = 0) -> None:
        """`start`: characters that came before, which it does not read."""
        self._cleaner = cleaner
        self._raw = ""
        self.changes: list[tuple[int, int]] = []
        self.fed = self.settled = start
        self._later = ""  # ordinary words, which the cleaner gets when something else comes
        self.word: str | None = "" if cleaner.at_rest else None
        """What may go on of a text that is ordinary words so far; None: something else is being read."""

    def feed(self, text: str) -> None:
        word = self.word
        if word is not None and len(self._later) < _MOST_LATER:
            prose = PROSE.fullmatch(word + text)
            if prose is not None:
                self._later += text
                self.word = word = prose[1]
                self.fed = fed = self.fed + len(text)
                self.settled = fed - len(word)
                return
        text = self._catch_up() + text
        self._raw += text
        self.fed += len(text)
        cleaner = self._cleaner
        self._compare(cleaner.feed(text), cleaner.held)
        self.word = self._raw if cleaner.at_rest else None

    def finish(self) -> None:
        text = self._catch_up()
        self._raw += text
        self.fed += len(text)
        self._compare(self._cleaner.feed(text) + self._cleaner.finish() if text else self._cleaner.finish(), 0)

    def _catch_up(self) -> str:
        """What was put off, as if it had not come yet."""
        later, self._later = self._later, ""
        if later:
            self.fed -= len(later)
            self.settled = self.fed - len(self._raw)
        return later

    def changed(self, start: int, end: int) -> bool:
        for first, last in reversed(self.changes):
            if last <= start:
                break
            if first < end:
                return True
        return False

    def _compare(self, released: str, held: int) -> None:
        raw = self._raw
        if raw.startswith(released) and len(raw) - len(released) <= held:
            self._raw = raw[len(released) :]
            self.settled += len(released)
            return
        same = next((at for at, (a, b) in enumerate(zip(raw, released, strict=False)) if a != b), len(released))
        first, last = self.settled + min(same, len(raw)), self.fed - held
        self.changes.append((min(first, last), max(last, first + 1)))
        self.settled = last
        self._raw = raw[len(raw) - held :] if held else ""
