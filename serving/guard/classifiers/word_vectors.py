"""Word vectors: a model knows the meaning of a word that no text of its training had.

The vectors were distilled from a sentence encoder, each word read by it alone; a text is the sum of its words'. That
is a table to look up, without a network to run. How much a word tells is in the length of its vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.guard.classifiers.ngrams import Hashes, words_in

NUM_DIMENSIONS = 128

_REACH = 3.0
"""The length of a text's vector: about that of a few lexical features together."""


@dataclass(frozen=True, slots=True)
class WordVectors:
    """A vector for each known word."""

    words: Hashes
    """Hashes of the words, rising."""
    vectors: NDArray[np.int8]
    """A row for each."""

    def sums(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """For each text that is `normal` the sum of its words' vectors; zeros where none is known."""
        result = np.zeros((len(texts), NUM_DIMENSIONS), dtype=np.float32)
        hashes, owners = words_in(texts)
        if not len(hashes) or not len(self.words):
            return result
        places = np.minimum(np.searchsorted(self.words, hashes), len(self.words) - 1)
        known = self.words[places] == hashes
        if known.any():
            whose, starts = np.unique(owners[known], return_index=True)
            result[whose] = np.add.reduceat(self.vectors[places[known]].astype(np.float32), starts, axis=0)
        return result

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """For each text that is `normal`, the direction of its sum, whatever its length."""
        return _REACH * directions(self.sums(texts))


NO_WORD_VECTORS = WordVectors(np.empty(0, dtype=np.uint64), np.empty((0, NUM_DIMENSIONS), dtype=np.int8))
"""Knows no word."""


def directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row at a length of one; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-6)
    return result
