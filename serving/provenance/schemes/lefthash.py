"""Green lists as transformers' `WatermarkLogitsProcessor` has them, so that its `WatermarkDetector` reads the mark.

The last token alone seeds a permutation of the vocabulary, of which the first quarter is green. That permutation is
torch's: the Mersenne Twister's 32-bit words and a Fisher-Yates shuffle, of which only the first quarter of the steps
is needed. Slow to read and known to be easy to learn from enough answers: for those who need that detector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.provenance.schemes.kgw import GREEN_SHARE, Kgw
from serving.provenance.schemes.scheme import Pairs, distinct_pairs

NAME = "kgw-lefthash"


class Lefthash(Kgw):
    """Not among `SCHEMES`: whoever reads it must know how many tokens the model's output layer has."""

    name = NAME
    context_width = 1

    def __init__(self, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size

    def pairs(self, token_ids: Sequence[int]) -> Pairs:
        return distinct_pairs(token_ids, 1, whole_contexts=True)

    def token_scores(self, seeds: Sequence[int], pairs: Pairs) -> NDArray[np.float64]:
        scores = np.zeros((len(seeds), len(pairs)))
        for row, seed in zip(scores, seeds, strict=True):
            for last in np.unique(pairs.contexts[:, 0]).tolist():
                here = np.flatnonzero(pairs.contexts[:, 0] == last)
                row[here] = np.isin(pairs.tokens[here], green_list(seed, last, self.vocabulary_size))
        return scores


def green_list(seed: int, last_token: int, vocabulary_size: int) -> NDArray[np.int64]:
    """The green tokens after `last_token`; `seed` is transformers' `hashing_key`."""
    steps = int(vocabulary_size * GREEN_SHARE)
    words = np.random.RandomState(twister_seed(seed, last_token)).randint(0, 2**32, steps, dtype=np.uint32)
    index = np.arange(steps)
    others = (index + words % (vocabulary_size - index)).tolist()
    order = list(range(vocabulary_size))
    for place, other in enumerate(others):
        order[place], order[other] = order[other], order[place]
    return np.array(order[:steps], np.int64)


def twister_seed(seed: int, last_token: int) -> int:
    """What the Mersenne Twister starts from; torch gives it the low 32 bits."""
    return seed * last_token % (2**64 - 1) & 0xFFFFFFFF
