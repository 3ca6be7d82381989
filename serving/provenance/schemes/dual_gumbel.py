"""vLLM 0.32's dual-key Gumbel mark: key B decides about one token in ten, key A about the others.

It is made for speculative decoding, where drafts are drawn with one key and what replaces them with another. Without
drafts it is a somewhat weaker `gumbel`: here so that answers of either kind of engine are found by one detector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.provenance.schemes.gumbel import CONTEXT_WIDTH, Gumbel
from serving.provenance.schemes.scheme import Cumulants, Pairs, Rivals, distinct_pairs
from serving.provenance.schemes.tails import log_two_gamma_tail

ALPHA = 0.1  # the share of key B, vLLM's default


class DualGumbel:
    """Scores both keys' draws, each weighed by its share."""

    name = "dual-gumbel"
    context_width = CONTEXT_WIDTH

    def pairs(self, token_ids: Sequence[int]) -> Pairs:
        return distinct_pairs(token_ids, CONTEXT_WIDTH)

    def token_scores(self, seeds: Sequence[int], pairs: Pairs) -> NDArray[np.float64]:
        a, b = zip(*map(key_pair, seeds), strict=True) if seeds else ((), ())
        single = Gumbel()
        return (1 - ALPHA) * single.token_scores(a, pairs) + ALPHA * single.token_scores(b, pairs)

    def log_p_value(self, score: float, num_tokens: int) -> float:
        """Exact, where vLLM's own detector takes one gamma variable with the sum's mean and variance."""
        return log_two_gamma_tail(score, num_tokens, 1 - ALPHA, ALPHA)

    def marked_scores(self, probabilities: NDArray[np.float64], rivals: Rivals | None = None) -> Cumulants:
        """Each key lifts the tokens it decides, and only its own part of their score."""
        gain, variance, third = Gumbel().marked_scores(probabilities)
        shares = np.array([[1 - ALPHA], [ALPHA]])  # of the key that decides; the other's is the rest
        mean = (shares * shares * gain).sum(axis=0)
        apart = shares * gain - mean
        variances = shares**2 * variance + (1 - shares) ** 2
        thirds = shares**3 * third + 2 * (1 - shares) ** 3
        return Cumulants(
            mean,
            (shares * (variances + apart**2)).sum(axis=0),
            (shares * (thirds + 3 * apart * variances + apart**3)).sum(axis=0),
        )


def key_pair(seed: int) -> tuple[int, int]:
    """Keys A and B, derived as vLLM does."""
    a, b = (hashlib.sha256(domain + seed.to_bytes(8, "big")).digest()[:8] for domain in (b"key_a", b"key_b"))
    return int.from_bytes(a, "big"), int.from_bytes(b, "big")
