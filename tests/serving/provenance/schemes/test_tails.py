"""Tails against scipy and against simulation."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, gamma

from serving.provenance.schemes.tails import log_binomial_tail, log_gamma_tail, log_two_gamma_tail


@pytest.mark.parametrize("trials", [1, 30, 200, 6000])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.25, 0.5, 0.7, 1.0])
def test_binomial_tail(trials: int, share: float) -> None:
    count = round(trials * share)

    expected = float(binom.logsf(count - 1, trials, 0.25))

    if expected > -700:  # scipy has no more
        assert log_binomial_tail(count, trials, 0.25) == pytest.approx(expected, rel=1e-8, abs=1e-12)
    else:
        assert log_binomial_tail(count, trials, 0.25) < -600


def test_more_than_all_is_impossible() -> None:
    assert log_binomial_tail(11, 10, 0.5) == -math.inf


@pytest.mark.parametrize("shape", [1, 7, 200])
@pytest.mark.parametrize("ratio", [0.2, 1.0, 1.5, 4.0])
def test_two_equal_gammas_are_one(shape: int, ratio: float) -> None:
    """The limit in which the weights agree has a closed form."""
    score = shape * ratio

    ours = log_two_gamma_tail(score, shape, 0.5 + 1e-9, 0.5 - 1e-9)

    assert ours == pytest.approx(log_gamma_tail(2 * score, 2 * shape), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("ratio", [0.8, 1.0, 1.2, 1.5])
def test_two_gammas_against_simulation(ratio: float) -> None:
    rng, draws, shape = np.random.default_rng(2), 200_000, 20
    sums = 0.9 * rng.gamma(shape, size=draws) + 0.1 * rng.gamma(shape, size=draws)

    hits = int((sums >= shape * ratio).sum())

    assert binomtest(hits, draws, math.exp(log_two_gamma_tail(shape * ratio, shape, 0.9, 0.1))).pvalue > 1e-4


def test_two_gammas_by_numerical_integration_far_out() -> None:
    """P(.9 X + .1 Y >= s) = E over Y of the tail of X, where one of a thousand sums gets to and beyond."""
    y = (np.arange(200_000) + 0.5) * 4e-4
    weights = gamma.pdf(y, 10) * 4e-4
    for score in (20.0, 40.0, 60.0):
        expected = float((weights * gamma.sf((score - 0.1 * y) / 0.9, 10)).sum())
        assert log_two_gamma_tail(score, 10, 0.9, 0.1) == pytest.approx(math.log(expected), rel=1e-4)


def test_nothing_scored_is_no_evidence() -> None:
    assert log_gamma_tail(0.0, 0) == log_binomial_tail(0, 0, 0.25) == log_two_gamma_tail(0.0, 0, 0.9, 0.1) == 0.0
