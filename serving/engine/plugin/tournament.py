"""SynthID's tournament, compiled. The construction is that of `serving.provenance.schemes.synthid`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from serving.engine.plugin.kernel import compiled
from serving.provenance.schemes.synthid import MULTIPLIER, SAMPLING_TABLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

u64 = np.uint64
FACTOR, ONE, LOW_16 = u64(MULTIPLIER), u64(1), u64(0xFFFF)


@compiled
def winner(
    weights: NDArray[np.float32],
    tokens: NDArray[np.int64],
    context: NDArray[np.uint32],
    keys: NDArray[np.uint64],
    table: NDArray[np.uint8],
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
    places = np.empty(size, np.uint64)
    probabilities = np.empty(size, np.float64)
    total = 0.0
    for i in range(size):
        places[i] = (hashed + u64(tokens[i])) * FACTOR + ONE
        total += weights[i]
    for i in range(size):
        probabilities[i] = weights[i] / total
    bits = np.empty(size, np.float64)
    for key in keys:
        ones = 0.0
        for i in range(size):
            bits[i] = table[((places[i] + key) * FACTOR + ONE) & LOW_16]
            ones += bits[i] * probabilities[i]
        for i in range(size):
            probabilities[i] *= 1.0 + bits[i] - ones
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
    winner(one, np.zeros(1, np.int64), np.zeros(4, np.uint32), np.zeros(2, np.uint64), SAMPLING_TABLE, 0.5)
