"""The green list of Kirchenbauer et al. (arXiv 2301.10226): a quarter of all tokens is preferred after each context.

It changes the model's distribution, unlike the other schemes, and that is why it alone marks greedy text. Which tokens
are green follows from the same Philox draws as the Gumbel mark's, under a seed of its own: no permutation of the
vocabulary, so a single token can be asked about. `lefthash` has the list that transformers' detector reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.provenance.philox import token_words
from serving.provenance.schemes.scheme import Pairs, distinct_pairs
from serving.provenance.schemes.tails import log_binomial_tail

CONTEXT_WIDTH = 4
GREEN_SHARE = 0.25
# Words below this are green: exactly a quarter of the 32-bit words.
GREEN_BELOW = 1 << 30
# What green logits gain unless an engine is told otherwise.
DEFAULT_DELTA = 2.0


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

    def expected_scores(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        return expected_green(probabilities, DEFAULT_DELTA)


def expected_green(probabilities: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """By how much a sampled token of this probability is green more often than a quarter.

    By Bayes' rule from the token's chances when it is green and when it is red, of the others a quarter being green.
    """
    gain = np.expm1(delta)
    others = (1 - probabilities) * GREEN_SHARE
    if_green = GREEN_SHARE * (1 + gain) / (1 + gain * (probabilities + others))
    if_red = (1 - GREEN_SHARE) / (1 + gain * others)
    excess: NDArray[np.float64] = if_green / (if_green + if_red) - GREEN_SHARE
    return excess
