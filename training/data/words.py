"""The words of a text as numbers, and its runs of words: what near-duplicates and leaked evaluations are found by."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# A character each where words have no spaces between them.
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
# Forgotten when full: memory is bounded, and the commonest words come back at once.
_MOST_REMEMBERED = 1 << 18
_remembered: dict[str, int] = {}
# 2**64 divided by the golden ratio (Knuth), and a constant of SplitMix64 (Steele et al. 2014).
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def words_of(text: str) -> list[str]:
    """Its words, in one case."""
    return _WORD.findall(text.casefold())


def hash_text(text: str) -> int:
    """64 bits, the same in every process."""
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def runs(text: str, length: int) -> Hashes:
    """A hash of each run of `length` words, each once; of the whole text where it has fewer."""
    words = words_of(text)
    if not words:
        return np.empty(0, np.uint64)
    length = min(length, len(words))
    ids = np.array(_hash_words(words), np.uint64)
    made = np.zeros(len(words) - length + 1, np.uint64)
    with np.errstate(over="ignore"):
        for place in range(length):
            made = (made + ids[place : len(ids) - length + 1 + place]) * _FACTOR
        made ^= made >> np.uint64(31)
        made *= _MIX
        made ^= made >> np.uint64(29)
    return np.unique(made)


def _hash_words(words: list[str]) -> list[int]:
    hashes = list(map(_remembered.get, words))
    if None in hashes:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered.update((word, hash_text(word)) for word in {*words}.difference(_remembered))
        return [_remembered[word] for word in words]
    return cast("list[int]", hashes)
