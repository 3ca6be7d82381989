"""Whether a text could carry a mark that would be found: the power of the test, known before the test is made.

A mark shows only where the model had a choice. Given what the tokens were drawn from, the score of a marked text is
close to normal, with the cumulants that the scheme states; where nothing is known of them, surprisals are taken to be
spread as they are in text of the stated entropy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.provenance.detection.drawn import Drawn
from serving.provenance.detection.normal import upper_tail
from serving.provenance.detection.null import Null
from serving.provenance.schemes import Pairs, Scheme

Floats = NDArray[np.float64]


class Total(NamedTuple):
    """The first three cumulants of a marked text's score."""

    mean: float
    variance: float
    third: float


# Per token, where nobody says: cautious for prose of a large model, far too much for code, sums and quotations.
ASSUMED_NATS = 0.5
# An engine leaves the beginning of an answer unmarked until the tokens before could have differed by so many nats of
# collision entropy, its default. Green lists have no opening.
OPENING_NATS = 4.6
# How much surprisal that is, where no more is known: so in real answers and small models'.
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
    is_fresh = np.zeros(len(pairs), np.bool_)
    is_fresh[np.unique(pairs.contexts, axis=0, return_index=True)[1]] = True
    return is_fresh


def marked_score(scheme: Scheme, null: Null, drawn: Drawn, pairs: Pairs, weights: Floats | None) -> Total:
    """A marked text's score, from what its tokens were drawn from; weights are of the pairs."""
    marked = fresh(pairs)
    if scheme.name not in WITHOUT_OPENING:
        marked &= ~_in_opening(drawn, pairs, marked)[pairs.positions]
    rivals = None if drawn.rivals is None else drawn.rivals.at(pairs.positions)
    gain, variance, third = scheme.marked_scores(drawn.probabilities[pairs.positions], rivals)
    weight = np.ones(len(pairs)) if weights is None else weights
    return Total(
        float((weight * (null.mean + np.where(marked, gain, 0.0))).sum()),
        float((weight**2 * np.where(marked, variance, null.variance)).sum()),
        float((weight**3 * np.where(marked, third, null.third)).sum()),
    )


def _in_opening(drawn: Drawn, pairs: Pairs, first_of_context: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which tokens of the text the engine leaves unmarked for a start; some it does not count."""
    counted = np.zeros(len(drawn.probabilities), np.bool_)
    counted[: pairs.contexts.shape[1]] = True
    counted[pairs.positions[first_of_context]] = True
    if drawn.collision_nats is None:
        nats, least = -np.log(drawn.probabilities), OPENING_SURPRISAL
    else:
        nats, least = drawn.collision_nats, OPENING_NATS
    spent = np.where(counted, nats, 0.0)
    in_opening: NDArray[np.bool_] = np.cumsum(spent) - spent < least
    return in_opening


def typical_score(scheme: Scheme, null: Null, num_tokens: int, num_fresh: int, nats_per_token: float) -> Total:
    """As `marked_score`, of tokens about which nobody knows anything; `num_fresh` of them may be marked."""
    gain, variance, third = scheme.marked_scores(typical_probabilities(nats_per_token))
    opening = 0.0 if scheme.name in WITHOUT_OPENING else OPENING_SURPRISAL / nats_per_token + OPENING_EXCESS
    num_marked = max(0.0, num_fresh - opening)
    num_others = num_tokens - num_marked
    # Of a token: what the draw varies by, and what tokens differ in.
    apart = gain - gain.mean()
    return Total(
        num_tokens * null.mean + num_marked * float(gain.mean()),
        num_marked * float((variance + apart**2).mean()) + num_others * null.variance,
        num_marked * float((third + 3 * apart * variance + apart**3).mean()) + num_others * null.third,
    )


def power(total: Total, critical: float) -> float:
    """The chance that such a score reaches the critical one: the normal tail, corrected for skew (Edgeworth)."""
    if total.variance <= 0 or critical == math.inf:
        return 0.0
    deviation = math.sqrt(total.variance)
    z = (critical - total.mean) / deviation
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    skewed = upper_tail(z) + total.third / deviation**3 / 6 * (z * z - 1) * density
    return min(max(skewed, 0.0), 1.0)


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
