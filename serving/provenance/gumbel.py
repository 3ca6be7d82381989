"""The Gumbel mark: the keyed draws behind each token, and how likely a text would score so high by chance.

A marked token is the one with the largest log p - log(-log u), where u is drawn by Philox4x32-10 from the key,
the four tokens before it and the token itself: the choice follows the model's own distribution, and whoever has
the key finds the u of the chosen tokens too large. Construction and generator are those of vLLM 0.32's own
Gumbel watermark (`philox4x32-10-v1`, width 4), so that each detector reads the other's marks.

Shapes: K keys, T scored tokens. numpy only: the gateway has no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CONTEXT_WIDTH = 4
BEFORE_THE_ANSWER = -1  # stands in the context for tokens before the answer's first

Words = NDArray[np.uint64]  # 32-bit words, kept in 64 bits so that products do not overflow

_MASK = np.uint64(0xFFFFFFFF)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_CONTEXT_DOMAIN, _TOKEN_DOMAIN = np.uint64(0x574D4358), np.uint64(0x574D544B)
_HALF, _BYTE, _LANE = np.uint64(32), np.uint64(8), np.uint64(3)


def philox4x32(counter: Sequence[Words], key: Sequence[Words]) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10 (Salmon et al. 2011, doi 10.1145/2063384.2063405), elementwise over broadcast arrays."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product_0, product_1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = (product_1 >> _HALF) ^ c1 ^ k0, (product_0 >> _HALF) ^ c3 ^ k1
        c1, c3 = product_1 & _MASK, product_0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def uniforms(seeds: Sequence[int], contexts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    """The draw of each token under each seed.

    seeds [K], 64 bits each; contexts [T, 4], oldest token first; tokens [T]. Returns [K, T], in the open (0, 1).
    """
    seed = np.array(seeds, dtype=np.uint64)[:, None]
    key = seed & _MASK, seed >> _HALF
    previous = contexts.astype(np.uint64) & _MASK  # -1 becomes 2**32 - 1
    width = np.uint64(CONTEXT_WIDTH)
    s0, s1, s2, s3 = philox4x32(
        (_CONTEXT_DOMAIN ^ previous[:, 0], width ^ previous[:, 1], previous[:, 2], previous[:, 3]), key
    )
    token = tokens.astype(np.uint64)
    words = philox4x32((token >> np.uint64(2), s0, s1, s2), (key[0] ^ s3, key[1] ^ _TOKEN_DOMAIN))
    word = np.choose((token & _LANE).astype(np.intp), words)
    # 24 bits, because float32 holds no more below 1; rounded to float32 as the generating side does.
    return (((word >> _BYTE).astype(np.float64) + 1.0) / (2**24 + 1)).astype(np.float32)


def scored_pairs(token_ids: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Contexts [T, 4] and tokens [T] of a text, each (context, token) once.

    A repeated pair repeats its draw and is no new evidence; counting it again makes repetitive text of any origin
    look marked.
    """
    padded = np.array([BEFORE_THE_ANSWER] * CONTEXT_WIDTH + list(token_ids), dtype=np.int64)
    windows = np.stack([padded[offset : offset + len(token_ids)] for offset in range(CONTEXT_WIDTH + 1)], axis=1)
    distinct: NDArray[np.int64] = np.unique(windows, axis=0)
    return distinct[:, :CONTEXT_WIDTH], distinct[:, CONTEXT_WIDTH]


def scores(seeds: Sequence[int], contexts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum over the tokens of -log(1 - u), per seed [K]: Gamma(T) distributed where the text does not know the seed."""
    draws = uniforms(seeds, contexts, tokens).astype(np.float64)
    total: NDArray[np.float64] = -np.log1p(-draws).sum(axis=1)
    return total


def log_p_value(score: float, num_tokens: int) -> float:
    """Natural log of the chance that a Gamma(num_tokens) variable is at least score; exact, and no underflow.

    For a whole number of tokens that chance is the Poisson sum exp(-score) * sum_{i < num_tokens} score**i / i!.
    """
    if num_tokens == 0 or score <= 0:
        return 0.0
    index = np.arange(1, num_tokens)
    terms = np.concatenate(([0.0], np.cumsum(math.log(score) - np.log(index))))
    largest = float(terms.max())
    return min(0.0, largest + math.log(float(np.exp(terms - largest).sum())) - score)
