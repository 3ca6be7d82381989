"""Philox4x32-10 (Salmon et al. 2011, doi 10.1145/2063384.2063405) for many keys at once.

The draw of a token comes from two blocks: the context under the key gives four words, and they, with the token, the
word that is drawn (vLLM 0.32's `philox4x32-10-v1`). Detection among thousands of keys is this and little else, so it
works in place, on pieces that stay in the processor's cache, and does once what is the same under every key: the first
round of the context's block, and the token's part of the other.

Shapes: K keys, T tokens, W tokens of context.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]  # 32-bit words, kept in 64 bits so that products do not overflow

ROUNDS = 10
# Seven arrays of this many words are in use at a time.
PIECE = 32_768

_MASK = np.uint64(0xFFFFFFFF)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_CONTEXT_DOMAIN, _TOKEN_DOMAIN = np.uint64(0x574D4358), np.uint64(0x574D544B)
_HALF, _LANE = np.uint64(32), np.uint64(3)


def token_words(seeds: Sequence[int], contexts: NDArray[np.int64], tokens: NDArray[np.int64]) -> Words:
    """The 32-bit word of each token under each seed.

    seeds [K], 64 bits each; contexts [T, 4], oldest token first, -1 for none; tokens [T]. Returns [K, T].
    """
    words = np.empty((len(seeds), len(tokens)), np.uint64)
    if words.size == 0:
        return words
    shared = _Shared(contexts, tokens)
    seed = np.array(seeds, dtype=np.uint64)[:, None]
    per_piece = max(1, PIECE // len(tokens))
    for first in range(0, len(seeds), per_piece):
        shared.fill(words[first : first + per_piece], seed[first : first + per_piece])
    return words


class _Shared:
    """What is the same under every key, and room to work in."""

    def __init__(self, contexts: NDArray[np.int64], tokens: NDArray[np.int64]) -> None:
        previous = contexts.astype(np.uint64).T & _MASK  # -1 becomes 2**32 - 1
        product_0 = (_CONTEXT_DOMAIN ^ previous[0]) * _M0
        product_1 = previous[2] * _M1
        width = np.uint64(contexts.shape[1])
        self._context = (
            (product_1 >> _HALF) ^ width ^ previous[1],
            product_1 & _MASK,
            (product_0 >> _HALF) ^ previous[3],
            product_0 & _MASK,
        )
        token = tokens.astype(np.uint64)
        product = (token >> np.uint64(2)) * _M0
        self._token = product >> _HALF, product & _MASK
        lane = token & _LANE
        self._lanes = [np.flatnonzero(lane == number) for number in range(4)]
        rows = max(1, PIECE // len(tokens))
        self._room = [np.empty((rows, len(tokens)), np.uint64) for _ in range(7)]

    def fill(self, words: Words, seed: Words) -> None:
        """words [k, T], seed [k, 1]."""
        c0, c1, c2, c3, spare, other, k0 = (array[: len(words)] for array in self._room)
        low, high = seed & _MASK, seed >> _HALF

        np.bitwise_xor(self._context[0], low, out=c0)
        np.bitwise_xor(self._context[2], high, out=c2)
        c1[:], c3[:] = self._context[1], self._context[3]
        key_0, key_1 = low, high
        for _ in range(ROUNDS - 1):
            key_0, key_1 = (key_0 + _W0) & _MASK, (key_1 + _W1) & _MASK
            _round(c0, c1, c2, c3, key_0, key_1, spare, other)

        # The second block: counter (token / 4, c0, c1, c2), key (low ^ c3, high ^ domain).
        np.bitwise_xor(c3, low, out=k0)
        key_1 = high ^ _TOKEN_DOMAIN
        np.multiply(c1, _M1, out=other)
        np.right_shift(other, _HALF, out=spare)
        c0 ^= k0
        c0 ^= spare
        c2 ^= self._token[0]
        c2 ^= key_1
        np.bitwise_and(other, _MASK, out=c1)
        c3[:] = self._token[1]
        for _ in range(ROUNDS - 1):
            k0 += _W0  # grows past 32 bits, ten times at most: cut off again behind the round
            key_1 = (key_1 + _W1) & _MASK
            _round(c0, c1, c2, c3, k0, key_1, spare, other)
            c0 &= _MASK

        for word, lane in zip((c0, c1, c2, c3), self._lanes, strict=True):
            words[:, lane] = word[:, lane]


def _round(c0: Words, c1: Words, c2: Words, c3: Words, k0: Words, k1: Words, spare: Words, other: Words) -> None:
    """One round in place; `spare` and `other` are overwritten."""
    np.multiply(c0, _M0, out=spare)
    np.multiply(c2, _M1, out=other)
    np.right_shift(other, _HALF, out=c0)
    c0 ^= c1
    c0 ^= k0
    np.right_shift(spare, _HALF, out=c2)
    c2 ^= c3
    c2 ^= k1
    np.bitwise_and(other, _MASK, out=c1)
    np.bitwise_and(spare, _MASK, out=c3)
