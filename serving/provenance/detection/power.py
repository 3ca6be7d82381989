"""Whether a text could carry a mark that would be found: the power of the test, known before the test is made.

A mark shows only where the model had a choice. Given the probabilities of the tokens, the score of a marked text is
close to normal, with the means that the scheme states; without them, surprisals are taken to be spread as they are in
text of the stated entropy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from serving.provenance.detection.normal import upper_tail
from serving.provenance.detection.null import ExponentialNull, Null
from serving.provenance.schemes import Pairs, Scheme

Floats = NDArray[np.float64]

# Per token, where nobody says: cautious for prose of a large model, far too much for code, sums and quotations.
ASSUMED_NATS = 0.5
# An engine leaves the beginning of an answer unmarked until the tokens before could have differed by 4.6 nats of
# collision entropy, which is some 6.5 nats of surprisal: so in real answers and small models'. Green lists have none.
OPENING_SURPRISAL = 6.5
# By how many tokens' mean surprisal the token that ends the opening passes it: half their mean square, over their mean.
OPENING_EXCESS = 2.0
WITHOUT_OPENING = frozenset({"kgw"})
# Surprisals of a model's own text are spread as a Weibull variable of this shape: most tokens are nearly certain.
SURPRISAL_SHAPE = 0.6

_GRID = (np.arange(200) + 0.5) / 200


def typical_probabilities(nats_per_token: float) -> Floats:
    """Probabilities of tokens in equal shares, as in text of this entropy."""
    spread = (-np.log1p(-_GRID)) ** (1 / SURPRISAL_SHAPE)
    probabilities: Floats = np.exp(-spread * nats_per_token / spread.mean())
    return probabilities


def fresh(pairs: Pairs) -> NDArray[np.bool_]:
    """Which pairs are the first with their context: those of a context that comes again are left unmarked."""
    found = np.zeros(len(pairs), np.bool_)
    found[np.unique(pairs.contexts, axis=0, return_index=True)[1]] = True
    return found


def marked_score(
    scheme: Scheme, null: Null, probabilities: Floats, pairs: Pairs, weights: Floats | None
) -> tuple[float, float]:
    """Mean and variance of a marked text's score, from all its tokens' probabilities; weights are of the pairs."""
    opening = 0.0 if scheme.name in WITHOUT_OPENING else OPENING_SURPRISAL
    surprisals = -np.log(probabilities)
    marked = fresh(pairs) & (np.cumsum(surprisals) - surprisals >= opening)[pairs.positions]
    scored = probabilities[pairs.positions]
    weight = np.ones(len(scored)) if weights is None else weights
    means = null.mean + np.where(marked, scheme.expected_scores(scored), 0.0)
    variances = np.where(marked, _marked_variances(null, scored), null.variance)
    return float((weight * means).sum()), float((weight**2 * variances).sum())


def typical_score(
    scheme: Scheme, null: Null, num_tokens: int, num_fresh: int, nats_per_token: float
) -> tuple[float, float]:
    """As `marked_score`, of tokens whose probabilities nobody knows; `num_fresh` of them may be marked."""
    probabilities = typical_probabilities(nats_per_token)
    gains = scheme.expected_scores(probabilities)
    opening = 0.0 if scheme.name in WITHOUT_OPENING else OPENING_SURPRISAL / nats_per_token + OPENING_EXCESS
    num_marked = max(0.0, num_fresh - opening)
    # Of a token: what the draw varies by, and what tokens differ in.
    variance = float(_marked_variances(null, probabilities).mean() + gains.var())
    mean = num_tokens * null.mean + num_marked * float(gains.mean())
    return mean, num_marked * variance + (num_tokens - num_marked) * null.variance


def power(mean: float, variance: float, critical: float) -> float:
    """The chance that a normal score of this mean and variance reaches the critical one."""
    return upper_tail((critical - mean) / math.sqrt(variance)) if variance > 0 else 0.0


def critical_score(log_p_value: Callable[[float], float], level: float, start: float) -> float:
    """The score whose p-value is the level; `start` is the null's mean, where the p-value is about a half."""
    low, high = start, 2 * start + 10
    while log_p_value(high) > math.log(level):
        if high > 1e12:  # nothing weighs anything
            return math.inf
        low, high = high, 2 * high
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if log_p_value(middle) > math.log(level) else (low, middle)
    return high


def _marked_variances(null: Null, probabilities: Floats) -> Floats:
    if not isinstance(null, ExponentialNull):
        return np.full(len(probabilities), null.variance)
    # -ln(1 - u) of the largest of n draws has the variance pi**2 / 6 - trigamma(1 + n).
    return math.pi**2 / 6 - _trigamma(1 + 1 / probabilities)


def _trigamma(number: Floats) -> Floats:
    """Of numbers of at least 1; to eight digits."""
    below = sum((1 / (number + step) ** 2 for step in range(6)), np.zeros_like(number))
    inverse = 1 / (number + 6)
    square = inverse * inverse
    series: Floats = inverse + square / 2 + inverse * square * (1 / 6 - square * (1 / 30 - square / 42))
    return below + series
