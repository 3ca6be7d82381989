"""Scores: what a bin tells, as a number from 0 to 1, and which mean it may have while traffic is unchanged.

The reference is a sample too, so the mean is known up to a band. Each band holds with its share of the confidence:

- The rank of a new value among the reference's n values (ties half) has mean 1/2. Given the reference, its mean is one
  less the mean of n independent variables, each the conditional expectation of a uniform one, and a uniform variable is
  sub-Gaussian with its own variance 1/12. So it is off by more than e with probability at most 2 exp(-6 n e^2),
  whatever the distribution is.
- A rate is off by more than Chernoff's bound in its relative-entropy form: n KL(observed, true) <= log(1 / error).

To the band comes the tolerance, a standardized effect (Cohen's d of two normal samples; Cohen's h of two rates).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.drift.sketch import Bins, Grid, Sketch

_TAIL = 0.1
"""Share of the reference that is its low or high end."""
_LEAST, _MOST = 1e-6, 1 - 1e-6
"""Nearest that the mean on which a bet is lost comes to 0 and 1, where no bet is possible."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one feature."""

    names: tuple[str, ...]
    """`rank`, `low end`, `high end`, `rate`, or the number of a class."""
    values: NDArray[np.float64]
    """[scores, bins]"""
    low: NDArray[np.float64]
    """[scores] Least mean of unchanged traffic."""
    high: NDArray[np.float64]
    """[scores] Largest mean of unchanged traffic."""


def make_scores(grid: Grid, reference: Sketch, *, error: float, tolerance: float) -> Scores:
    """Scores of a feature with this `reference`; a band misses the true mean with probability `error` at most."""
    if grid.kind == "flag":
        return _shares(["rate"], np.array([[0.0, 1.0]]), reference, error, tolerance)
    if grid.kind == "class":
        names = [str(number) for number in range(grid.num_bins)]
        return _shares(names, np.eye(grid.num_bins), reference, error / grid.num_bins, tolerance)
    ranks = mid_ranks(reference.counts)
    radius = math.sqrt(math.log(6 / error) / (6 * reference.samples)) + rank_tolerance(tolerance)
    below, above = _ends(reference.counts)
    # The ends are chosen by looking at the reference: the bound holds for all of them at once.
    ends = _shares(["low end", "high end"], np.array([below, above]), reference, error / (3 * grid.num_bins), tolerance)
    return Scores(
        ("rank", *ends.names),
        np.vstack([ranks, ends.values]),
        np.append(max(0.0, 0.5 - radius), ends.low),
        np.append(min(1.0, 0.5 + radius), ends.high),
    )


def mid_ranks(counts: Bins) -> NDArray[np.float64]:
    """[bins] Share of the counted values below a bin, and half of those in it."""
    ranks: NDArray[np.float64] = (np.cumsum(counts) - counts / 2) / max(1, counts.sum())
    return ranks


def rank_tolerance(effect: float) -> float:
    """How far the mean rank of a normal sample is from 1/2 when it is shifted by `effect` standard deviations."""
    return 0.5 * math.erf(effect / 2)


def rate_band(hits: int, samples: int, error: float, tolerance: float) -> tuple[float, float]:
    """Range of rates that `hits` of `samples` leave possible, each side wrong with probability `error` / 2 at most."""
    room = math.log(2 / error) / samples
    low, high = (_rate_at(hits / samples, room, side) for side in (0.0, 1.0))
    shift = tolerance / 2
    low = math.sin(max(0.0, math.asin(math.sqrt(low)) - shift)) ** 2
    high = math.sin(min(math.pi / 2, math.asin(math.sqrt(high)) + shift)) ** 2
    return low, high


def _rate_at(observed: float, room: float, side: float) -> float:
    """The rate towards `side` whose relative entropy from the observed one is `room`, by bisection."""
    inside, outside = observed, side
    for _ in range(50):
        middle = (inside + outside) / 2
        if _relative_entropy(observed, middle) <= room:
            inside = middle
        else:
            outside = middle
    return outside


def _relative_entropy(p: float, q: float) -> float:
    """KL divergence of two coins, in nats."""
    heads = p * math.log(p / q) if p and q else (math.inf if p else 0.0)
    tails = (1 - p) * math.log((1 - p) / (1 - q)) if p < 1 and q < 1 else (math.inf if p < 1 else 0.0)
    return heads + tails


def _ends(counts: Bins) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bins at the reference's low and high end, as 1."""
    shares = np.cumsum(counts) / max(1, counts.sum())
    low = (shares <= _TAIL).astype(np.float64)
    high = (shares - counts / max(1, counts.sum()) >= 1 - _TAIL).astype(np.float64)
    return low, high


def _shares(names: list[str], values: NDArray[np.float64], reference: Sketch, error: float, tolerance: float) -> Scores:
    hits = (values @ reference.counts).round().astype(int)
    bands = [rate_band(int(count), reference.samples, error, tolerance) for count in hits]
    low, high = (np.array(side) for side in zip(*bands, strict=True))
    return Scores(tuple(names), values, np.minimum(low, _MOST), np.maximum(high, _LEAST))
