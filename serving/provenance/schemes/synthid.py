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
from itertools import product

import numpy as np
from numpy.typing import NDArray

from serving.provenance.schemes.scheme import Cumulants, Pairs, Rivals, distinct_pairs
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

# The tables of `winners`: by the log-odds of a token's probability, and by how concentrated its rivals are.
_LOG_ODDS = np.linspace(-12, 12, 121)
_CONCENTRATIONS = np.array([0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0])
# By how much in a round, at which the mean score of the default model's tokens is that of simulated tournaments.
PACE = 0.1
# Of the rivals of tokens about whose rivals nothing is known.
TYPICAL_CONCENTRATION = 0.2


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

    def marked_scores(self, probabilities: NDArray[np.float64], rivals: Rivals | None = None) -> Cumulants:
        """See `winners`; without `rivals`, they are taken to be as concentrated as in ordinary text."""
        if rivals is None:
            return winners(probabilities, np.full(len(probabilities), TYPICAL_CONCENTRATION))
        others = np.maximum(1 - probabilities, 1e-9)
        return winners(probabilities, rivals.collision / others**2)


def winners(probabilities: NDArray[np.float64], concentration: NDArray[np.float64]) -> Cumulants:
    """What tokens score that won the tournament, by their probability and the concentration of their rivals.

    The latter is the chance that two draws from the rivals agree: 1 for a single rival, 0 for endlessly many.
    """
    kept = np.clip(probabilities, 1e-6, 1 - 1e-6)
    log_odds = np.log(kept / (1 - kept))
    place = np.interp(concentration, _CONCENTRATIONS, np.arange(len(_CONCENTRATIONS)))
    lower = np.minimum(place.astype(np.int64), len(_CONCENTRATIONS) - 2)
    part, every = place - lower, np.arange(len(kept))
    mixed = []
    for table in _winners_tables():
        columns = np.array([np.interp(log_odds, _LOG_ODDS, row) for row in table])
        mixed.append((1 - part) * columns[lower, every] + part * columns[lower + 1, every])
    return Cumulants(*mixed)


@lru_cache(maxsize=1)
def _winners_tables() -> NDArray[np.float64]:
    """[cumulant, concentration, log-odds]"""
    return np.array([_moments_of_winners(float(one)) for one in _CONCENTRATIONS]).swapaxes(0, 1)


def _moments_of_winners(concentration: float) -> tuple[NDArray[np.float64], ...]:
    """Cumulants of a winner's score beyond half its rounds, by its log-odds: from the last round to the first.

    In a round the weight w of the token becomes w * (1 + (1 - w) * (own bit - rivals' mean bit)). The rivals' mean bit
    is a half plus or minus what gives it its variance: exact for one rival and for endlessly many. Winning tilts each
    outcome by the weight's growth. Rivals concentrate from round to round.
    """
    weight = 1 / (1 + np.exp(-_LOG_ODDS))
    concentrations = [concentration]
    for _ in range(DEPTH - 1):
        concentrations.append(concentrations[-1] * (1 + PACE * (1 - concentrations[-1])))
    first = second = third = np.zeros_like(weight)
    for spread in np.sqrt(concentrations[::-1]):
        sums = [np.zeros_like(weight) for _ in range(3)]
        for own, rivals in product((0.5, -0.5), (0.5, -0.5)):
            grown = weight * (1 + (1 - weight) * (own - rivals * spread))
            grown = np.clip(grown, 1e-12, 1 - 1e-12)
            after = np.log(grown / (1 - grown))
            m1, m2, m3 = (np.interp(after, _LOG_ODDS, moment) for moment in (first, second, third))
            chance = grown / weight / 4
            sums[0] += chance * (own + m1)
            sums[1] += chance * (own**2 + 2 * own * m1 + m2)
            sums[2] += chance * (own**3 + 3 * own**2 * m1 + 3 * own * m2 + m3)
        first, second, third = sums
    variance = second - first**2
    return first, variance, third - 3 * first * second + 2 * first**3


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
