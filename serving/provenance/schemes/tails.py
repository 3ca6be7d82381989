"""Exact tails of the sums that detectors form, as natural logarithms: nothing underflows, and numpy is enough."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def log_gamma_tail(score: float, shape: int) -> float:
    """log P(Gamma(shape) >= score), for a whole shape: the Poisson sum exp(-score) * sum_{i < shape} score**i / i!."""
    if shape == 0 or score <= 0:
        return 0.0
    index = np.arange(1, shape)
    terms = np.concatenate(([0.0], np.cumsum(math.log(score) - np.log(index))))
    return min(0.0, log_sum(terms) - score)


def log_binomial_tail(count: int, trials: int, chance: float) -> float:
    """log P(Binomial(trials, chance) >= count)."""
    if count <= 0:
        return 0.0
    if count > trials:
        return -math.inf
    first = (
        math.lgamma(trials + 1)
        - math.lgamma(count + 1)
        - math.lgamma(trials - count + 1)
        + count * math.log(chance)
        + (trials - count) * math.log1p(-chance)
    )
    index = np.arange(count, trials)
    ratios = np.log((trials - index) / (index + 1)) + math.log(chance / (1 - chance))
    return min(0.0, first + log_sum(np.concatenate(([0.0], np.cumsum(ratios)))))


def log_two_gamma_tail(score: float, shape: int, heavy: float, light: float) -> float:
    """log P(heavy * X + light * Y >= score) of two independent Gamma(shape) variables, heavy > light > 0.

    heavy * X is light * Gamma(shape + N) with N negative binomial, success probability light / heavy. So the sum is a
    mixture of gammas of one scale, and its tail sum_i Poisson(i; score / light) * P(N > i - 2 * shape).
    """
    if shape == 0 or score <= 0:
        return 0.0
    rate, success = score / light, light / heavy
    # Beyond the last term a gamma of this shape is as good as certain to reach the score.
    last = max(1, math.ceil(rate + 12 * math.sqrt(rate) + 60) - 2 * shape)
    index = np.arange(1, last + 1)
    log_n = shape * math.log(success) + np.concatenate(
        ([0.0], np.cumsum(np.log((shape + index - 1) / index) + math.log1p(-success)))
    )
    log_poisson = _log_poisson(rate, 2 * shape + last)
    below = np.logaddexp.accumulate(log_poisson)[2 * shape - 1 : 2 * shape + last]
    return min(0.0, float(np.logaddexp(log_sum(log_n + below), _log_beyond(log_n, shape, success))))


def log_sum(logs: NDArray[np.float64]) -> float:
    """log of the sum of exp."""
    largest = float(logs.max())
    return largest if largest == -math.inf else largest + math.log(float(np.exp(logs - largest).sum()))


def _log_poisson(rate: float, last: int) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.concatenate(([0.0], np.cumsum(math.log(rate) - np.log(np.arange(1, last + 1)))))
    return logs - rate


def _log_beyond(log_n: NDArray[np.float64], shape: int, success: float) -> float:
    """log P(N > last), from above: the terms that follow shrink at least as fast as a geometric series."""
    last = len(log_n) - 1
    ratio = (shape + last) / (last + 1) * (1 - success)
    return float(log_n[-1]) + math.log(ratio / (1 - ratio)) if ratio < 1 else 0.0
