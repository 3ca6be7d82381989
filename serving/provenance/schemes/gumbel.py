"""The Gumbel mark: the model's own distribution, with a keyed draw in place of chance.

A marked token is the one with the largest log p - log(-log u), where u is drawn by Philox4x32-10 from the key,
the four tokens before it and the token itself: the choice follows the model's own distribution, and whoever has
the key finds the u of the chosen tokens too large. Construction and generator are those of vLLM 0.32's own
Gumbel watermark (`philox4x32-10-v1`, width 4), so that each detector reads the other's marks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.provenance.philox import token_words
from serving.provenance.schemes.scheme import Cumulants, Pairs, Rivals, distinct_pairs
from serving.provenance.schemes.tails import log_gamma_tail

CONTEXT_WIDTH = 4

_EULER = 0.5772156649015329
_APERY = 1.2020569031595942
_BYTE = np.uint64(8)


class Gumbel:
    """Scores -log(1 - u): exponentially distributed where the text does not know the seed."""

    name = "gumbel"
    context_width = CONTEXT_WIDTH

    def pairs(self, token_ids: Sequence[int]) -> Pairs:
        return distinct_pairs(token_ids, CONTEXT_WIDTH)

    def token_scores(self, seeds: Sequence[int], pairs: Pairs) -> NDArray[np.float64]:
        draws = uniforms(seeds, pairs.contexts, pairs.tokens).astype(np.float64)
        scores: NDArray[np.float64] = -np.log1p(-draws)
        return scores

    def log_p_value(self, score: float, num_tokens: int) -> float:
        """The sum of T exponential scores is Gamma(T)."""
        return log_gamma_tail(score, num_tokens)

    def marked_scores(self, probabilities: NDArray[np.float64], rivals: Rivals | None = None) -> Cumulants:
        """A token of probability p that won has the largest of 1 / p draws, so to speak: H(1 / p) - 1.

        Who the others were does not matter.
        """
        draws = 1 / probabilities
        variance = math.pi**2 / 6 - trigamma(1 + draws)
        return Cumulants(harmonic(draws) - 1, variance, 2 * _APERY + tetragamma(1 + draws))


def uniforms(seeds: Sequence[int], contexts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    """The draw of each token under each seed.

    seeds [K], 64 bits each; contexts [T, 4], oldest token first; tokens [T]. Returns [K, T], in the open (0, 1).
    """
    word = token_words(seeds, contexts, tokens)
    # 24 bits, because float32 holds no more below 1; rounded to float32 as the generating side does.
    return (((word >> _BYTE).astype(np.float64) + 1.0) / (2**24 + 1)).astype(np.float32)


def harmonic(number: NDArray[np.float64]) -> NDArray[np.float64]:
    """Harmonic numbers, of fractions above 0 too; to ten digits."""
    below = sum((1 / (number + step) for step in range(1, 9)), np.zeros_like(number))
    far = number + 8  # the expansion for large numbers holds from here
    inverse = 1 / (far * far)
    large = np.log(far) + _EULER + 1 / (2 * far) - inverse * (1 / 12 - inverse * (1 / 120 - inverse / 252))
    result: NDArray[np.float64] = large - below
    return result


def trigamma(number: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of numbers of at least 1; to eight digits."""
    below = sum((1 / (number + step) ** 2 for step in range(6)), np.zeros_like(number))
    inverse = 1 / (number + 6)
    square = inverse * inverse
    series: NDArray[np.float64] = inverse + square / 2 + inverse * square * (1 / 6 - square * (1 / 30 - square / 42))
    return below + series


def tetragamma(number: NDArray[np.float64]) -> NDArray[np.float64]:
    """Trigamma's derivative, of numbers of at least 1; to seven digits."""
    below = sum((2 / (number + step) ** 3 for step in range(6)), np.zeros_like(number))
    inverse = 1 / (number + 6)
    square = inverse * inverse
    series: NDArray[np.float64] = square * (1 + inverse + square * (1 / 2 - square * (1 / 6 - square / 6)))
    return -(below + series)
