"""What the alternatives to an answer's tokens spell: those of each rank, over all positions, are a text of their own.

Nearly all of them are ordinary words, in which no guard finds anything. While a rank spells nothing else its words
are only kept, and what may be shown is known without a cleaner; a cleaner reads them when something else comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from serving.gateway.streams.spelled_text import SpelledText
from serving.guard import Answers
from serving.guard.text.stream import PROSE

# Longer ones are no words, and not worth keeping.
_MOST_CHARS = 48
# As many are known by themselves: tokens are the same few words of a vocabulary again and again.
_MOST_TEXTS = 8192
# As many texts of a rank wait at most for its cleaner.
_MOST_KEPT = 256


class _Rank:
    """What the alternatives of one rank spell."""

    __slots__ = ("first", "kept", "since", "spans", "spelled", "word")

    def __init__(self, word: str | None, first: int) -> None:
        self.spelled: SpelledText | None = None  # made when something else than ordinary words comes
        self.word = word
        """What may go on of ordinary words; None: the cleaner reads something else."""
        self.since = first
        """The first position of which the guard is not sure."""
        self.first = first
        self.kept: list[str] = []
        """Ordinary words that the cleaner has not had, from position `first` on."""
        self.spans: deque[tuple[int, int, int]] = deque()
        """Places of which the guard was not sure when the cleaner read last: from where to where they reach."""


class Alternatives:
    """Reads the alternatives of one choice, position by position, and says up to which position they may be shown."""

    def __init__(self, guard: Answers) -> None:
        self._guard = guard
        self._ranks: list[_Rank] = []
        self._rests = False  # each rank spells ordinary words
        self._rows: list[Sequence[str]] = []
        """The last positions, whose texts are ordinary words that do not go on with the words before them."""
        self._last: list[str | None] = []
        """What may go on of each rank behind them."""
        self.num_read = 0
        """Places so far."""
        self.num_settled = 0
        """Of them, those in which nothing can change any more."""
        self.refused: set[int] = set()
        """Places in which the guard would change something."""

    @property
    def changed(self) -> bool:
        """Whether the guard would change anything of what was read."""
        return any(rank.spelled.changes for rank in self._ranks if rank.spelled is not None)

    def read(self, texts: Sequence[str]) -> int:
        """Take what each rank spells at the next position; returns the position."""
        position = self.num_read
        if self.read_words(texts):
            return position
        self.num_read = position + 1
        self._share_out()
        self._read_each(texts, position)
        self._rests = all(rank.word is not None for rank in self._ranks)
        self.num_settled = min([position + 1, *[rank.since for rank in self._ranks]])
        return position

    def read_words(self, texts: Sequence[str]) -> bool:
        """Take texts that are known words, which settles all positions before; False: they are to be `read`."""
        if not self._rests or len(texts) != len(self._ranks) or len(self._rows) >= _MOST_KEPT:
            return False
        last = list(map(_last_words.get, texts))
        if None in last:
            return False
        self._rows.append(texts)
        self._last = last
        position = self.num_read
        self.num_read = position + 1
        self.num_settled = position if any(last) else position + 1
        return True

    def _share_out(self) -> None:
        """Give each rank its own words of the rows that were kept."""
        if not self._rows:
            return
        settled = self.num_settled
        for rank, last, texts in zip(self._ranks, self._last, zip(*self._rows, strict=True), strict=True):
            rank.kept += texts
            rank.word = last
            rank.since = settled
        self._rows = []

    def _read_each(self, texts: Sequence[str], position: int) -> None:
        ranks = self._ranks
        if len(texts) != len(ranks):
            word = "" if self._guard.stream().at_rest else None
            ranks += [_Rank(word, position) for _ in texts[len(ranks) :]]
            texts = [*texts, *[""] * (len(ranks) - len(texts))]
        for rank, text in zip(ranks, texts, strict=True):
            word = rank.word
            if word is None or len(text) > _MOST_CHARS or len(rank.kept) > _MOST_KEPT:
                self._read_exactly(rank, text, position)
                continue
            last = _last_word(text)
            if last is None and (prose := PROSE.fullmatch(word + text)) is not None:
                last = prose[1]
            if last is None:
                self._read_exactly(rank, text, position)
                continue
            if len(last) <= len(text):
                rank.since = position if last else position + 1
            rank.word = last
            rank.kept.append(text)

    def finish(self) -> None:
        """The choice is complete."""
        self._share_out()
        for rank in self._ranks:
            if rank.spelled is not None:
                self._catch_up(rank, rank.spelled, self.num_read)
                rank.spelled.finish()
                self._refuse(rank, rank.spelled)
        self.num_settled = self.num_read

    def _read_exactly(self, rank: _Rank, text: str, position: int) -> None:
        spelled, spans = rank.spelled, rank.spans
        if spelled is None:
            spelled = rank.spelled = SpelledText(self._guard.stream())
        self._catch_up(rank, spelled, position)
        spans.append((position, spelled.fed, spelled.fed + len(text)))
        spelled.feed(text)
        self._refuse(rank, spelled)
        while spans and spans[0][2] <= spelled.settled:
            spans.popleft()
        rank.since = spans[0][0] if spans else position + 1
        # A change may reach into what comes next.
        rank.word = None if spelled.changes else spelled.word
        rank.first = position + 1

    def _catch_up(self, rank: _Rank, spelled: SpelledText, position: int) -> None:
        """Give the cleaner the ordinary words before a position."""
        spans, end = rank.spans, spelled.fed
        while spans and spans[0][0] < rank.since:
            spans.popleft()
        for index, text in enumerate(rank.kept, rank.first):
            start, end = end, end + len(text)
            if index >= rank.since:
                spans.append((index, start, end))
        if rank.kept:
            spelled.feed("".join(rank.kept))
            rank.kept = []
        rank.first = position

    def _refuse(self, rank: _Rank, spelled: SpelledText) -> None:
        if spelled.changes:
            self.refused.update(position for position, start, end in rank.spans if spelled.changed(start, end))


_last_words: dict[str, str] = {}
"""Of texts that have been read: what `_last_word` says, where it says something."""


def _last_word(text: str) -> str | None:
    """The last word of ordinary words that do not go on with the word before them; None: it is something else."""
    prose = PROSE.fullmatch(text)
    if prose is None or text[:1].isalpha() or text[:1] in "'.":
        return None
    if len(_last_words) >= _MOST_TEXTS:
        _last_words.clear()
    last = _last_words[text] = prose[1]
    return last
