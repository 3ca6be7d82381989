"""Which texts hold something that is evaluated on: runs of words that they share with it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from training.data.words import Hashes, runs, words_of


class Evaluations:
    """The runs of words of what is evaluated on."""

    def __init__(self, texts: Iterable[str], length: int) -> None:
        self._length = length
        self._lengths: list[int] = []
        by_length: dict[int, list[Hashes]] = {}
        for text in texts:
            words = len(words_of(text))
            if words:
                by_length.setdefault(min(words, length), []).append(runs(text, length))
        # A shorter text is looked for as a whole, wherever it stands.
        self._runs = {size: np.unique(np.concatenate(hashes)) for size, hashes in sorted(by_length.items())}

    def share_with(self, text: str) -> bool:
        """Whether a text holds any of them. One word or two say nothing unless they are all of it."""
        size = len(words_of(text))
        for length, known in self._runs.items():
            if length > size or (length < 3 and length < size):
                continue
            if np.isin(runs(text, length), known, assume_unique=True).any():
                return True
        return False
