"""SynthID-Text (Dathathri et al. 2024, doi 10.1038/s41586-024-08025-4): tokens win a tournament of thirty rounds.

In each round of which two candidates meet, the one with the larger g-value goes on, a bit drawn from a key of the
round, the four tokens before and the candidate. On average over keys the model's own distribution stays what it is.
Hash, table and tournament are those of transformers' `SynthIDTextWatermarkLogitsProcessor` with its default table, so
that its functions compute the same g-values.

That hash ends in 16 bits: two tokens of a text that hash alike have the same g-values under every key, and count once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from serving.provenance.schemes.scheme import Pairs, distinct_pairs
from serving.provenance.schemes.tails import log_binomial_tail

CONTEXT_WIDTH = 4
DEPTH = 30
TABLE_SIZE = 1 << 16
MULTIPLIER = 6364136223846793005


def _sampling_table() -> NDArray[np.uint8]:
    # As torch.randint(0, 2, (TABLE_SIZE,)) of a generator with seed 0 has it.
    return (np.random.RandomState(0).randint(0, 2**32, TABLE_SIZE, dtype=np.uint32) & 1).astype(np.uint8)


SAMPLING_TABLE = _sampling_table()
# Not quite a half, and known: the chance of a g-value of 1 where the text knows nothing of the key.
ONES = float(SAMPLING_TABLE.mean())


class SynthId:
    """Scores the number of rounds in which a token has the larger g-value."""

    name = "synthid"
    context_width = CONTEXT_WIDTH

    def pairs(self, token_ids: Sequence[int]) -> Pairs:
        """Whole contexts only, as transformers' detector reads them; each hash once."""
        pairs = distinct_pairs(token_ids, CONTEXT_WIDTH, whole_contexts=True)
        _, first = np.unique(places(pairs.contexts, pairs.tokens), return_index=True)
        return pairs.select(np.sort(first))

    def token_scores(self, seeds: Sequence[int], pairs: Pairs) -> NDArray[np.float64]:
        scores = np.zeros((len(seeds), len(pairs)))
        for row, seed in zip(scores, seeds, strict=True):
            row[:] = g_values(round_keys(seed), pairs.contexts, pairs.tokens).sum(axis=1)
        return scores

    def log_p_value(self, score: float, num_tokens: int) -> float:
        return log_binomial_tail(round(score), num_tokens * DEPTH, ONES)

    def expected_scores(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Round by round, the others' bits at their mean: who wins a round goes into the next with more weight."""
        weight, excess = probabilities.astype(np.float64), np.zeros(len(probabilities))
        for _ in range(DEPTH):
            excess += (1 - weight) / 4
            weight = weight * (5 - 2 * weight + weight**2) / 4
        return excess


@lru_cache(maxsize=4096)
def round_keys(seed: int) -> tuple[int, ...]:
    """The keys of the thirty rounds: transformers' `keys`."""
    digests = (hashlib.sha256(b"synthid round %d|" % number + seed.to_bytes(8, "big")) for number in range(DEPTH))
    return tuple(int.from_bytes(digest.digest()[:8], "big") >> 1 for digest in digests)


def places(contexts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """Low 16 bits of the hash of context and token; all that the g-values depend on, beside the keys."""
    hashed = np.ones(len(tokens), np.uint64)
    for column in (*contexts.T, tokens):
        hashed = (hashed + column.astype(np.uint64)) * np.uint64(MULTIPLIER) + np.uint64(1)
    return (hashed % np.uint64(TABLE_SIZE)).astype(np.int64)


def g_values(keys: Sequence[int], contexts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.uint8]:
    """[T, rounds]"""
    shifted = places(contexts, tokens)[:, None].astype(np.uint64) + np.array(keys, np.uint64)
    index = (shifted * np.uint64(MULTIPLIER) + np.uint64(1)) % np.uint64(TABLE_SIZE)
    return SAMPLING_TABLE[index.astype(np.int64)]
