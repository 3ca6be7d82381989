"""Weighted sums of exponential variables: the approximation against exact tails."""

import math

import numpy as np
import pytest
from scipy.stats import gamma

from serving.provenance.detection.weighted import log_p_value, weights_of


@pytest.mark.parametrize("num_tokens", [10, 50, 400])
@pytest.mark.parametrize("p", [0.9, 0.5, 0.01, 1e-5, 1e-50])
def test_equal_weights_give_the_gamma_tail(num_tokens: int, p: float) -> None:
    score = float(gamma.isf(p, num_tokens))

    assert log_p_value(score / 2, np.full(num_tokens, 0.5)) == pytest.approx(math.log(p), abs=0.01)


def test_different_weights_give_the_tail_of_a_hypoexponential_sum() -> None:
    """For distinct weights P(S > x) is sum_i exp(-x / w_i) * prod_{j != i} w_i / (w_i - w_j)."""
    weights = np.array([1.0, 0.8, 0.6, 0.5, 0.35, 0.3, 0.2, 0.15, 0.1, 0.05])
    products = [np.prod([one / (one - other) for other in weights if other != one]) for one in weights]
    for score in (4.0, 8.0, 12.0):
        exact = sum(product * math.exp(-score / one) for product, one in zip(products, weights, strict=True))

        assert log_p_value(score, weights) == pytest.approx(math.log(exact), abs=0.02)


def test_a_token_that_was_certain_weighs_nothing() -> None:
    weights = weights_of(np.array([1.0, 2.0, 50.0]))

    assert weights[0] == 0
    assert weights == pytest.approx([0, 0.5, 0.98])
    assert log_p_value(3.0, np.array([0.0, 1.0])) == pytest.approx(-3.0, abs=0.03)


def test_nothing_to_weigh_is_no_evidence() -> None:
    assert log_p_value(5.0, np.zeros(3)) == 0.0
