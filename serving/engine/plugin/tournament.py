"""SynthID's tournament, compiled. The construction is that of `serving.provenance.schemes.synthid`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from serving.engine.plugin.kernel import compiled
from serving.provenance.schemes.synthid import DEPTH, MULTIPLIER, SAMPLING_TABLE, TABLE_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

u32, u64 = np.uint32, np.uint64
FACTOR, ONE, LOW_16 = u64(MULTIPLIER), u64(1), u64(0xFFFF)
# A weight is counted by its float32's exponent: 127 for 1, the largest; 0 for what is too small to matter.
OCTAVES = 128
MANTISSA_BITS = np.int32(23)
# Of a quarter of a megabyte each.
TABLES_KEPT = 64


# The bit of place p in the round of key k is that of place p + k under key 0; twice round, so that any key is a slice.
_AROUND = np.arange(2 * TABLE_SIZE, dtype=np.uint32).astype(np.uint16) * np.uint16(MULTIPLIER & 0xFFFF) + np.uint16(1)
_BITS_AROUND = SAMPLING_TABLE[_AROUND].astype(np.uint32)


@lru_cache(TABLES_KEPT)
def round_bits(keys: Sequence[int]) -> NDArray[np.uint32]:
    """[TABLE_SIZE]: for each end of a token's hash, the token's bits in all rounds, the first round's lowest.

    All that a bit depends on is the low 16 bits of the hash and the round's key, so one look-up replaces thirty.
    """
    bits, shifted = np.zeros(TABLE_SIZE, np.uint32), np.empty(TABLE_SIZE, np.uint32)
    for number, key in enumerate(keys):
        start = key % TABLE_SIZE
        np.left_shift(_BITS_AROUND[start : start + TABLE_SIZE], u32(number), out=shifted)
        bits |= shifted
    return bits


@compiled
def likeliest(weights: NDArray[np.float32], share: float) -> tuple[NDArray[np.int64], float, float]:
    """The places of the larger weights that hold a share of all at least, those weights' sum and that of all.

    The largest weight is 1. To the power of two: the smallest of them are less than half of what would do.
    """
    exponents = weights.view(np.int32)
    # Four sums, because neighbours fall into the same octave and would wait for each other.
    sums = np.zeros((4, OCTAVES))
    for i in range(weights.size):
        sums[i & 3, exponents[i] >> MANTISSA_BITS] += weights[i]
    total = sums.sum()
    octave, mass = OCTAVES - 1, sums[:, OCTAVES - 1].sum()
    while mass < share * total and octave > 0:
        octave -= 1
        mass += sums[:, octave].sum()
    least = np.int32(octave) << MANTISSA_BITS
    places = np.empty(weights.size, np.int64)
    kept = 0
    for i in range(weights.size):
        places[kept] = i
        kept += int(exponents[i] >= least)
    return places[:kept], mass, total


@partial(compiled, fastmath={"reassoc", "nsz"})  # sums in any order, which lets them be vector instructions
def winner(
    weights: NDArray[np.float32],
    tokens: NDArray[np.int64],
    context: NDArray[np.uint32],
    round_bits: NDArray[np.uint32],
    chance: float,
) -> int:
    """The token that wins, given a number in [0, 1) for what the rounds leave open.

    weights [n] in any scale, tokens [n]. A tournament of two candidates a round among ever so many draws comes to
    this: in each round a token's probability is multiplied by 1 + its bit - the probability that a bit is 1.
    """
    hashed = ONE
    for token in context:
        hashed = (hashed + u64(token)) * FACTOR + ONE
    size = weights.size
    bits = np.empty(size, np.uint32)
    probabilities = np.empty(size, np.float64)
    for i in range(size):
        bits[i] = round_bits[((hashed + u64(tokens[i])) * FACTOR + ONE) & LOW_16]
        probabilities[i] = weights[i]
    probabilities /= probabilities.sum()
    ones = 0.0
    for i in range(size):
        ones += probabilities[i] if bits[i] & u32(1) else 0.0
    for _ in range(DEPTH):
        of_zero, of_one, ones = 1.0 - ones, 2.0 - ones, 0.0
        for i in range(size):
            left_bits = bits[i]
            probability = probabilities[i] * (of_one if left_bits & u32(1) else of_zero)
            left_bits >>= u32(1)
            ones += probability if left_bits & u32(1) else 0.0
            probabilities[i], bits[i] = probability, left_bits
    # Thirty rounds of rounding leave a sum that is 1 to many digits, not to all.
    left = chance * probabilities.sum()
    last = 0
    for i in range(size):
        if probabilities[i] > 0.0:
            last = i
            left -= probabilities[i]
            if left < 0.0:
                break
    return int(tokens[last])


def warm_up() -> None:
    """Compile (or load) it for the types that are passed."""
    one = np.ones(1, np.float32)
    places, _, _ = likeliest(one, 0.5)
    winner(one, places, np.zeros(4, np.uint32), np.zeros(TABLE_SIZE, np.uint32), 0.5)
