"""The green list of Kirchenbauer et al. (arXiv 2301.10226): a quarter of all tokens is preferred after each context.

It changes the model's distribution, unlike the other schemes, and that is why it alone marks greedy text. Which tokens
are green follows from the same Philox draws as the Gumbel mark's, under a seed of its own: no permutation of the
vocabulary, so a single token can be asked about. `lefthash` has the list that transformers' detector reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from serving.provenance.philox import token_words
from serving.provenance.schemes.scheme import Cumulants, Pairs, Rivals, distinct_pairs
from serving.provenance.schemes.tails import log_binomial_tail

CONTEXT_WIDTH = 4
GREEN_SHARE = 0.25
# Words below this are green: exactly a quarter of the 32-bit words.
GREEN_BELOW = 1 << 30
# What green logits gain unless an engine is told otherwise.
DEFAULT_DELTA = 2.0

# Rivals whose colourings are gone through: 64 of each token's.
COLOURED = 6
# Greedy answers are taken to be this warm, where no two tokens that differ by a twentieth of a nat are near: nothing
# overflows.
COLDEST = 0.01
LARGEST_EXPONENT = 300.0


class Kgw:
    """Scores 1 for a green token."""

    name = "kgw"
    context_width = CONTEXT_WIDTH

    def pairs(self, token_ids: Sequence[int]) -> Pairs:
        return distinct_pairs(token_ids, CONTEXT_WIDTH)

    def token_scores(self, seeds: Sequence[int], pairs: Pairs) -> NDArray[np.float64]:
        return (token_words(seeds, pairs.contexts, pairs.tokens) < GREEN_BELOW).astype(np.float64)

    def log_p_value(self, score: float, num_tokens: int) -> float:
        """The number of green tokens among T is Binomial(T, 1/4)."""
        return log_binomial_tail(round(score), num_tokens, GREEN_SHARE)

    def marked_scores(self, probabilities: NDArray[np.float64], rivals: Rivals | None = None) -> Cumulants:
        green = green_chance(probabilities, DEFAULT_DELTA, rivals)
        variance = green * (1 - green)
        return Cumulants(green - GREEN_SHARE, variance, variance * (1 - 2 * green))


def green_chance(probabilities: NDArray[np.float64], delta: float, rivals: Rivals | None = None) -> NDArray[np.float64]:
    """How often a token that was drawn with this probability, were there no mark, is green.

    By Bayes' rule from the token's chances when it is green and when it is red. Of the likeliest rivals every
    colouring is gone through; of all others a quarter is green.
    """
    if rivals is None:
        nobody = np.full((len(probabilities), 1), -np.inf)
        rivals = Rivals(nobody, 1 / probabilities - 1, np.zeros_like(probabilities), 1.0)
    temperature = max(rivals.temperature, COLDEST)
    # Of the token itself, red, the weight is 1; green, `lifted`.
    lifted = math.exp(delta / temperature)
    gaps = -np.sort(-rivals.gaps, axis=1)
    weights = np.exp(np.minimum(gaps / temperature, LARGEST_EXPONENT))
    rest = rivals.rest + weights[:, COLOURED:].sum(axis=1)
    coloured = weights[:, :COLOURED]
    colours = np.array(list(product((False, True), repeat=coloured.shape[1])))
    chances = np.where(colours, GREEN_SHARE, 1 - GREEN_SHARE).prod(axis=1)
    others = coloured @ np.where(colours, lifted, 1.0).T + (rest * (1 + GREEN_SHARE * (lifted - 1)))[:, None]
    if_green = GREEN_SHARE * (lifted / (lifted + others)) @ chances
    if_red = (1 - GREEN_SHARE) * (1 / (1 + others)) @ chances
    green: NDArray[np.float64] = if_green / (if_green + if_red)
    return green
