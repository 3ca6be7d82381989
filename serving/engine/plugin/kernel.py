"""The keyed Gumbel maximum, compiled: hashes a whole vocabulary in tens of microseconds on one core.

The construction is that of `serving.provenance.schemes.gumbel`; the tests hold the two equal. Everything here is
single threaded, because the engine binds the threads of its own pool to cores and leaves none over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

u32, u64 = np.uint32, np.uint64
MULTIPLIER_0, MULTIPLIER_1 = u64(0xD2511F53), u64(0xCD9E8D57)
WEYL_0, WEYL_1 = u32(0x9E3779B9), u32(0xBB67AE85)
CONTEXT_DOMAIN, TOKEN_DOMAIN = u32(0x574D4358), u32(0x574D544B)
WIDTH = u32(4)

# One call of the generator gives the draws of four neighbouring tokens. A block of 1,024 tokens keeps its
# distances in the first-level cache and is the unit that is skipped when none of its tokens can win.
QUADS_PER_BLOCK = 256
TOKENS_PER_BLOCK = 4 * QUADS_PER_BLOCK

# A draw u has 24 bits; with d = 2**24 * (1 - u), the noise -log(-log u) is below -log(1 - u) = 24 log 2 - log d,
# and log2 d is above (bits of float32(d)) / 2**23 - 127, by .086 at most. So this is the noise's upper bound:
BOUND_OFFSET = np.float32(151 * math.log(2))
BOUND_SLOPE = np.float32(math.log(2) / 2**23)
# Covers the float32 rounding of bound and logit; a larger value only costs a few more exact evaluations.
BOUND_MARGIN = 2e-3


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """`numba.njit` with the machine code cached on disk, or without a cache where no folder can be written."""
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # "no locator available": read-only installation and no writable home
        return numba.njit(**options)(function)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Philox4x32-10 (Salmon et al. 2011, doi 10.1145/2063384.2063405). All words are uint32."""
    for _ in range(10):
        product_0 = u64(c0) * MULTIPLIER_0
        product_1 = u64(c2) * MULTIPLIER_1
        c0, c2 = u32(u32(product_1 >> u64(32)) ^ c1 ^ k0), u32(u32(product_0 >> u64(32)) ^ c3 ^ k1)
        c1, c3 = u32(product_1), u32(product_0)
        k0 = u32(k0 + WEYL_0)
        k1 = u32(k1 + WEYL_1)
    return c0, c1, c2, c3


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _noise(distance: Any) -> float:
    """-log(-log u) of a draw given as its distance 2**24 - mantissa from the top."""
    # float32 first: the detectors see the draw rounded to float32, so the choice is made on the same number.
    uniform = np.float32((16777217.0 - distance) / 16777217.0)
    return -math.log(-math.log(np.float64(uniform)))


@compiled
def keyed_argmax(logits: NDArray[np.float32], key: NDArray[np.uint32], context: NDArray[np.uint32]) -> int:
    """Index of the largest logit + keyed Gumbel noise; -1 where no logit is finite.

    logits [V] are divided by the temperature already; key [2] holds the low and the high word, context [4] the
    previous tokens, the last one last. Exact: only tokens whose upper bound is below the best so far are skipped.
    """
    k0, k1 = key[0], key[1]
    s0, s1, s2, s3 = philox(u32(CONTEXT_DOMAIN ^ context[0]), u32(WIDTH ^ context[1]), context[2], context[3], k0, k1)
    token_k0, token_k1 = u32(k0 ^ s3), u32(k1 ^ TOKEN_DOMAIN)
    distances = np.empty(TOKENS_PER_BLOCK, np.float32)
    bits = distances.view(np.int32)
    best, winner = -np.inf, -1
    for first in range(0, logits.size, TOKENS_PER_BLOCK):
        # A slice, because an index known to be small and positive lets the loops below become vector instructions.
        block = logits[first : first + TOKENS_PER_BLOCK]
        for quad in range((block.size + 3) // 4):
            w0, w1, w2, w3 = philox(u32(first // 4 + quad), s0, s1, s2, token_k0, token_k1)
            distances[4 * quad] = np.float32(u32(16777216) - (w0 >> u32(8)))
            distances[4 * quad + 1] = np.float32(u32(16777216) - (w1 >> u32(8)))
            distances[4 * quad + 2] = np.float32(u32(16777216) - (w2 >> u32(8)))
            distances[4 * quad + 3] = np.float32(u32(16777216) - (w3 >> u32(8)))
        threshold = np.float32(best - BOUND_MARGIN)
        hits = np.int32(0)
        for i in range(block.size):
            hits += np.int32(block[i] + (BOUND_OFFSET - BOUND_SLOPE * np.float32(bits[i])) > threshold)
        if hits == 0:
            continue
        for i in range(block.size):
            if block[i] + (BOUND_OFFSET - BOUND_SLOPE * np.float32(bits[i])) > threshold:
                score = block[i] + _noise(np.float64(distances[i]))
                if score > best:
                    best, winner = score, first + i
                    threshold = np.float32(best - BOUND_MARGIN)
    return winner


@compiled
def keyed_argmax_among(
    logits: NDArray[np.float32], survivors: NDArray[np.int64], key: NDArray[np.uint32], context: NDArray[np.uint32]
) -> int:
    """As `keyed_argmax`, over the tokens listed in survivors only; logits [V] is indexed by them."""
    k0, k1 = key[0], key[1]
    s0, s1, s2, s3 = philox(u32(CONTEXT_DOMAIN ^ context[0]), u32(WIDTH ^ context[1]), context[2], context[3], k0, k1)
    best, winner = -np.inf, -1
    for token in survivors:
        words = philox(u32(token >> 2), s0, s1, s2, u32(k0 ^ s3), u32(k1 ^ TOKEN_DOMAIN))
        lane = token & 3
        word = words[0] if lane == 0 else words[1] if lane == 1 else words[2] if lane == 2 else words[3]
        score = logits[token] + _noise(np.float64(u32(16777216) - (word >> u32(8))))
        # Survivors come in any order; between equal scores the lower index wins, as an argmax over all would have it.
        if score > best or (score == best and token < winner):
            best, winner = score, token
    return winner


@compiled
def uniform(words: NDArray[np.uint32], position: int, number: int) -> float:
    """The number-th draw in [0, 1) at this position of an answer, by chance that follows from words [2]."""
    w0, w1, _, _ = philox(u32(position), u32(number), u32(0), u32(0), words[0], words[1])
    return (np.float64(w0 >> u32(5)) * 67108864.0 + np.float64(w1 >> u32(6))) / 9007199254740992.0


def warm_up() -> None:
    """Compile (or load) all kernels for the types the processor passes, so that no request waits for it."""
    logits = np.zeros(8, np.float32)
    key, context = np.zeros(2, np.uint32), np.zeros(4, np.uint32)
    keyed_argmax(logits, key, context)
    keyed_argmax_among(logits, np.arange(8), key, context)
    uniform(key, 0, 0)
