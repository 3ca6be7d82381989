"""Which parts of a text are marked: every stretch of tokens whose scores no chance explains.

A token's evidence is theta * score - k(theta), k the null's log moment generating function. The best segment that ends
at a token is a walk that begins again whenever its sum falls to zero. So a segment of evidence x takes a beginning and
a rise to x before the next one. In tokens that know nothing of the key the number of beginnings and the chance of the
rise follow from Spitzer's identity; their product, summed over thetas and keys, is the p-value of a span: a bound and
no approximation, for Gumbel marks half as large again as what is seen, since one theta's segments are another's too.
Where probabilities are known, each token has the theta that fits it best.

Shapes: K keys, T scored tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from serving.provenance.detection.null import Null

Floats = NDArray[np.float64]

# Excess of a token's mean score, in the null's standard deviations, that a theta is best for: thin to thick marks.
EXCESSES = (0.25, 0.67, 1.5)
# Spitzer's sums end here: what they leave out makes the sum of rates larger by 3% at most.
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Segment:
    """Scored tokens first to last, both included; `evidence` in nats."""

    first: int
    last: int
    evidence: float


@dataclass(frozen=True, slots=True)
class Rate:
    """How often chance makes a segment of evidence x: (per_token * tokens + at_start) / (exp(x) - 1) at most."""

    per_token: float
    at_start: float


@lru_cache
def rate_of(null: Null, theta: float) -> Rate:
    """The rate of one theta.

    A token is a beginning with the chance `stays`, that no sum over tokens back from it is above zero; near the start
    of the text more often, by Wald's identity overshoot / leaves times in all. From a beginning the walk reaches x
    before it falls back with a chance of overshoot * leaves / (exp(x) - 1) at most: that is seen under tilted scores,
    under which the walk goes up, never falls back with the chance `leaves`, and exp(-sum) is a martingale of mean 1.
    """
    mean = null.log_mgf(theta) / theta
    numbers = range(1, _LONGEST + 1)
    stays = math.exp(-sum(null.above(number * mean, number, 0.0) / number for number in numbers))
    leaves = math.exp(-sum((1 - null.above(number * mean, number, theta)) / number for number in numbers))
    overshoot = null.overshoot(theta)
    return Rate(stays * leaves * overshoot, overshoot**2)


class Scan:
    """The search under one null; with `weights` [T], those of `weighted`, each token is tilted by its own."""

    def __init__(self, null: Null, weights: Floats | None = None) -> None:
        self._tilts: list[tuple[Floats, Floats]]
        if weights is None:
            thetas = [null.theta(excess) for excess in EXCESSES]
            self._tilts = [(np.array(theta), np.array(null.log_mgf(theta))) for theta in thetas]
            # Every null is a frozen record, which the protocol does not say.
            self._rates = [rate_of(null, theta) for theta in thetas]  # type: ignore[arg-type]
        else:
            self._tilts = [(weights, -np.log1p(-weights))]
            # Tokens are not alike, so of each it is only known that beginning there reaches x with e**-x (Ville 1939).
            self._rates = [Rate(1.0, 0.0)]

    def strongest(self, scores: Floats) -> Floats:
        """The evidence of each key's best segment; scores [K, T], in the order of the text. Returns [K]."""
        best = np.zeros(len(scores))
        for steps in self._steps(scores):
            sums = np.cumsum(steps, axis=1)
            floor = np.minimum.accumulate(np.minimum(sums, 0.0), axis=1)
            # Before a segment that begins with the first token nothing has been summed up.
            rise = np.maximum(sums[:, 0], (sums[:, 1:] - floor[:, :-1]).max(axis=1, initial=-np.inf))
            np.maximum(best, rise, out=best)
        return best

    def segments(self, scores: Floats, least: float) -> list[Segment]:
        """Segments of one key with at least this evidence, none overlapping another, strongest first; scores [T]."""
        segments = []
        steps = self._steps(scores)
        parts = [(0, len(scores))]
        while parts:
            start, end = parts.pop()
            segment = _best(steps, start, end)
            if segment is None or segment.evidence < least:
                continue
            segments.append(segment)
            parts += [(start, segment.first), (segment.last + 1, end)]
        return sorted(segments, key=lambda segment: -segment.evidence)

    def log_p_value(self, evidence: float, num_tokens: int, num_tests: int) -> float:
        """Natural log of the bound on the chance that any segment reaches this, under any of `num_tests` keys."""
        if evidence <= 0:
            return 0.0
        return min(0.0, math.log(num_tests * self._rate(num_tokens)) - evidence - math.log1p(-math.exp(-evidence)))

    def least_evidence(self, p_value: float, num_tokens: int, num_tests: int) -> float:
        """The evidence at which a segment's p-value is this one."""
        return math.log1p(num_tests * self._rate(num_tokens) / p_value)

    def _rate(self, num_tokens: int) -> float:
        return sum(rate.per_token * num_tokens + rate.at_start for rate in self._rates)

    def _steps(self, scores: Floats) -> list[Floats]:
        """Each token's evidence, by tilt."""
        return [theta * scores - cost for theta, cost in self._tilts]


def _best(steps: list[Floats], start: int, end: int) -> Segment | None:
    best: Segment | None = None
    for evidence in steps:
        sums = np.concatenate(([0.0], np.cumsum(evidence[start:end])))
        rises = sums[1:] - np.minimum.accumulate(sums)[:-1]
        if not rises.size:
            continue
        last = int(rises.argmax())
        if best is None or rises[last] > best.evidence:
            first = int(sums[: last + 1].argmin())
            best = Segment(start + first, start + last, float(rises[last]))
    return best
