"""Which parts of a text are marked: every stretch of tokens whose scores no chance explains.

A token's evidence is theta * score - k(theta), k the null's log moment generating function: over tokens that know
nothing of the key, the exponential of its sum from any place on is a martingale of mean 1, so it ever reaches e**x with
a chance of e**-x at most (Ville 1939). Over all T places to begin at, all keys and all thetas tried, the chance that
anything reaches x is at most T * keys * thetas * e**-x: that is the p-value of a span, a bound and no approximation.

Shapes: K keys, T scored tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.provenance.detection.null import Null

Floats = NDArray[np.float64]

# Excess of a token's mean score, in the null's standard deviations, that a theta is best for: thin to thick marks.
EXCESSES = (0.25, 0.67, 1.5)


@dataclass(frozen=True, slots=True)
class Segment:
    """Scored tokens first to last, both included; `evidence` in nats."""

    first: int
    last: int
    evidence: float


class Scan:
    """The search under one null."""

    def __init__(self, null: Null) -> None:
        self._thetas = [null.theta(excess) for excess in EXCESSES]
        self._costs = [null.log_mgf(theta) for theta in self._thetas]

    def strongest(self, scores: Floats) -> Floats:
        """The evidence of each key's best segment; scores [K, T], in the order of the text. Returns [K]."""
        best = np.zeros(len(scores))
        for theta, cost in zip(self._thetas, self._costs, strict=True):
            sums = np.cumsum(theta * scores - cost, axis=1)
            floor = np.minimum.accumulate(np.minimum(sums, 0.0), axis=1)
            # Before a segment that begins with the first token nothing has been summed up.
            rise = np.maximum(sums[:, 0], (sums[:, 1:] - floor[:, :-1]).max(axis=1, initial=-np.inf))
            np.maximum(best, rise, out=best)
        return best

    def segments(self, scores: Floats, least: float) -> list[Segment]:
        """Segments of one key with at least this evidence, none overlapping another, strongest first; scores [T]."""
        found = []
        parts = [(0, len(scores))]
        while parts:
            start, end = parts.pop()
            segment = self._best(scores, start, end)
            if segment is None or segment.evidence < least:
                continue
            found.append(segment)
            parts += [(start, segment.first), (segment.last + 1, end)]
        return sorted(found, key=lambda segment: -segment.evidence)

    def _best(self, scores: Floats, start: int, end: int) -> Segment | None:
        best: Segment | None = None
        for theta, cost in zip(self._thetas, self._costs, strict=True):
            sums = np.concatenate(([0.0], np.cumsum(theta * scores[start:end] - cost)))
            rises = sums[1:] - np.minimum.accumulate(sums)[:-1]
            if not rises.size:
                continue
            last = int(rises.argmax())
            if best is None or rises[last] > best.evidence:
                first = int(sums[: last + 1].argmin())
                best = Segment(start + first, start + last, float(rises[last]))
        return best


def log_p_value(evidence: float, num_tokens: int, num_tests: int) -> float:
    """Natural log of the bound on the chance that any segment reaches this evidence, under any of `num_tests` keys."""
    return min(0.0, math.log(max(1, num_tokens * num_tests * len(EXCESSES))) - evidence)


def least_evidence(p_value: float, num_tokens: int, num_tests: int) -> float:
    """The evidence at which a segment's p-value is this one."""
    return math.log(max(1, num_tokens * num_tests * len(EXCESSES))) - math.log(p_value)
