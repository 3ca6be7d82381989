"""A text as hashed n-grams of characters and words, computed by numpy without a loop over the text.

Hashes are polynomials over the character codes, modulo 2**64, finished by a mixing function, since the low bits of
such polynomials are weak. A word's hash comes from differences of one running sum over the whole text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.guard.text.folding import fold

Hashes = NDArray[np.uint64]

BUCKET_BITS = 18
NUM_BUCKETS = 1 << BUCKET_BITS

_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
_CHAR_SIZES = (3, 4, 5)
_ODD = np.array(
    [0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3],
    dtype=np.uint64,
)


def normal(text: str) -> str:
    """The text as classifiers read it: nothing invisible, look-alike letters folded, lower case, single spaces."""
    if not text.isascii():
        shown = (letter for letter in text if unicodedata.category(letter) != "Cf")
        text = fold(unicodedata.normalize("NFKC", "".join(shown)))
    return " ".join(text.lower().split())


class Grams(NamedTuple):
    """The n-grams of some texts: three arrays as long as each other."""

    buckets: NDArray[np.int64]
    values: NDArray[np.float32]
    owners: NDArray[np.int64]
    """Which text each belongs to."""


def hashed(texts: Sequence[str]) -> Grams:
    """Buckets of the n-grams in texts that are `normal`, and a value for each, all texts at once.

    Characters and words are each scaled to a length of one, so that neither drowns the other in a long text.
    """
    codes, owners = _in_a_row(texts)
    counted = [_counted(*_char_grams(codes, owners), len(texts)), _counted(*_word_grams(codes, owners), len(texts))]
    return Grams(*(np.concatenate(parts) for parts in zip(*counted, strict=True)))


def _counted(grams: Hashes, owners: NDArray[np.int64], num_texts: int) -> Grams:
    """Equal n-grams of a text as one, whose value grows with the logarithm of their number."""
    places = (grams >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    keys, counts = np.unique((owners << BUCKET_BITS) | places, return_counts=True)
    owner = keys >> BUCKET_BITS
    weights = 1 + np.log(counts)
    norms = np.sqrt(np.bincount(owner, weights * weights, num_texts))
    return Grams(keys & (NUM_BUCKETS - 1), (weights / norms[owner]).astype(np.float32), owner)


def words_in(texts: Sequence[str]) -> tuple[Hashes, NDArray[np.int64]]:
    """A hash for each word of texts that are `normal`, as `word_hashes`, and which text it belongs to."""
    codes, owners = _in_a_row(texts)
    words, starts = _words(codes)
    return _mix(words), owners[starts]


def _in_a_row(texts: Sequence[str]) -> tuple[Hashes, NDArray[np.int64]]:
    """The characters of all texts with spaces between them, and which text each belongs to."""
    padded = [f" {text} " for text in texts]
    return _codes("".join(padded)), np.repeat(np.arange(len(texts)), [len(text) for text in padded])


def word_hashes(text: str) -> Hashes:
    """A hash for each word of a text that is `normal`."""
    return _mix(_words(_codes(text))[0])


def _codes(text: str) -> Hashes:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)


def _char_grams(codes: Hashes, owners: NDArray[np.int64]) -> tuple[Hashes, NDArray[np.int64]]:
    """N-grams of characters within one text; those at its edges hold the space beside it."""
    grams, whose = [], []
    for size in _CHAR_SIZES:
        length = max(len(codes) - size + 1, 0)
        total = np.full(length, size, dtype=np.uint64)
        for place in range(size):
            total += codes[place : place + length] * _ODD[place]
        within = owners[:length] == owners[size - 1 : size - 1 + length]
        grams.append(_mix(total[within]))
        whose.append(owners[:length][within])
    return np.concatenate(grams), np.concatenate(whose)


def _word_grams(codes: Hashes, owners: NDArray[np.int64]) -> tuple[Hashes, NDArray[np.int64]]:
    """Words, pairs and triples of words, and pairs with one word between; a punctuation mark is a word."""
    words, starts = _words(codes)
    owner = owners[starts]
    grams, whose = [_mix(words)], [owner]
    for second, third, salt in ((1, 0, 11), (2, 0, 12), (1, 2, 13)):
        last = max(second, third)
        length = max(len(words) - last, 0)
        total = words[:length] * _ODD[0] + words[second : second + length] * _ODD[1]
        if third:
            total = total + words[third : third + length] * _ODD[2]
        within = owner[:length] == owner[last : last + length]
        grams.append(_mix(total[within] + np.uint64(salt)))
        whose.append(owner[:length][within])
    return np.concatenate(grams), np.concatenate(whose)


def _words(codes: Hashes) -> tuple[Hashes, NDArray[np.int64]]:
    """One hash for each word, and where it begins."""
    if not len(codes):
        return _NONE, np.empty(0, dtype=np.int64)
    kinds = np.where(codes < 128, _KINDS[np.minimum(codes, 127).astype(np.intp)], 1)
    # A word begins where the kind changes, and at every punctuation mark.
    begins = (kinds > 0) & ((kinds == 2) | (np.concatenate(([0], kinds[:-1])) != kinds))
    ends = (kinds > 0) & ((kinds == 2) | (np.concatenate((kinds[1:], [0])) != kinds))
    starts, stops = np.flatnonzero(begins), np.flatnonzero(ends) + 1
    powers, inverses = _powers(1 << (len(codes) - 1).bit_length())
    sums = np.concatenate((_NONE_YET, np.cumsum(codes * powers[: len(codes)], dtype=np.uint64)))
    return (sums[stops] - sums[starts]) * inverses[starts], starts


@lru_cache(maxsize=8)
def _powers(length: int) -> tuple[Hashes, Hashes]:
    """Powers of the polynomial's base, and of its inverse."""
    return _rising(_BASE, length), _rising(_INVERSE, length)


def _rising(base: int, length: int) -> Hashes:
    factors = np.full(length, base, dtype=np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _mix(values: Hashes) -> Hashes:
    """The finishing step of SplitMix64 (Steele, Lea and Flood 2014): every bit of the result depends on every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _kinds() -> NDArray[Any]:
    """For each ASCII character: 0 for a space, 1 for a character of a word, 2 for punctuation."""
    return np.array(
        [0 if chr(c).isspace() or c < 32 else 1 if chr(c).isalnum() or c in b"'_" else 2 for c in range(128)]
    )


_KINDS = _kinds()
_NONE = np.empty(0, dtype=np.uint64)
_NONE_YET = np.zeros(1, dtype=np.uint64)
