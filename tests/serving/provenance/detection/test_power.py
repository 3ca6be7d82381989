"""The power that is predicted before a text is tested, against the power that marked texts have."""

import math

import numpy as np
import pytest
from scipy.special import polygamma
from scipy.stats import gamma

from serving.provenance.detection import power
from serving.provenance.detection.null import NULLS, ExponentialNull
from serving.provenance.schemes import SCHEMES, Pairs

GUMBEL = SCHEMES["gumbel"]


def apart(num_tokens: int) -> Pairs:
    """Of a text in which nothing comes again."""
    return GUMBEL.pairs(range(num_tokens))


def marked_totals(probabilities: np.ndarray, texts: int) -> np.ndarray:
    """A token of probability p that won has u = v ** p of a uniform v."""
    uniform = np.random.default_rng(1).random((texts, len(probabilities)))
    marked = np.cumsum(np.append(0, -np.log(probabilities)))[:-1] >= power.OPENING_SURPRISAL
    draws = np.where(marked, uniform**probabilities, uniform)
    totals: np.ndarray = -np.log1p(-draws).sum(axis=1)
    return totals


@pytest.mark.parametrize("num_tokens", [40, 120, 400])
def test_prediction_from_probabilities_is_within_five_points(num_tokens: int) -> None:
    probabilities = np.random.default_rng(num_tokens).choice(power.typical_probabilities(0.5), num_tokens)
    totals = marked_totals(probabilities, 4000)
    mean, variance = power.marked_score(GUMBEL, ExponentialNull(), probabilities, apart(num_tokens), None)

    assert totals.mean() == pytest.approx(mean, rel=0.01)
    assert totals.var() == pytest.approx(variance, rel=0.1)
    for level in (1e-2, 1e-4, 1e-7):
        critical = power.critical_score(lambda score: GUMBEL.log_p_value(score, num_tokens), level, num_tokens)
        assert critical == pytest.approx(gamma.isf(level, num_tokens), rel=1e-4)
        assert power.power(mean, variance, critical) == pytest.approx((totals >= critical).mean(), abs=0.05)


def test_the_token_that_ends_the_opening_is_not_marked_yet() -> None:
    probabilities = np.array([math.exp(-power.OPENING_SURPRISAL), 0.5])

    mean, _ = power.marked_score(GUMBEL, ExponentialNull(), probabilities, apart(2), None)

    assert mean == pytest.approx(2 + GUMBEL.expected_scores(np.array([0.5]))[0])


def test_tokens_that_are_not_scored_are_part_of_the_opening() -> None:
    synthid, null = SCHEMES["synthid"], NULLS["synthid"]
    pairs = synthid.pairs(range(5))  # of these only the last is scored
    sure, surprising = np.full(5, 0.5), np.array([0.001, 0.5, 0.5, 0.5, 0.5])

    assert power.marked_score(synthid, null, sure, pairs, None)[0] == pytest.approx(null.mean)
    assert power.marked_score(synthid, null, surprising, pairs, None)[0] > null.mean + 1


def test_typical_text_has_the_stated_entropy() -> None:
    surprisals = -np.log(power.typical_probabilities(0.7))

    assert surprisals.mean() == pytest.approx(0.7)
    assert (surprisals < 0.1).mean() > 0.25


def test_typical_score_is_that_of_texts_whose_tokens_are_typical() -> None:
    grid = power.typical_probabilities(0.8)
    rng = np.random.default_rng(2)
    means = [
        power.marked_score(GUMBEL, ExponentialNull(), rng.choice(grid, 300), apart(300), None)[0] for _ in range(300)
    ]

    mean, variance = power.typical_score(GUMBEL, ExponentialNull(), 300, 300, 0.8)

    assert np.mean(means) == pytest.approx(mean, rel=0.01)
    assert variance > np.var(means)


def test_text_without_any_choice_carries_no_mark() -> None:
    mean, variance = power.marked_score(GUMBEL, ExponentialNull(), np.ones(200), apart(200), None)

    assert (mean, variance) == (200, 200)
    assert power.power(mean, variance, float(gamma.isf(1e-3, 200))) < 0.01


def test_a_context_that_comes_again_is_not_expected_to_be_marked() -> None:
    pairs = GUMBEL.pairs([1, 2, 3, 4, 5, 1, 2, 3, 4, 6, 1, 2, 3, 4, 7])

    assert power.fresh(pairs)[[4, 9, 13]].tolist() == [True, False, True]
    assert power.fresh(pairs).sum() == len(pairs) - 2


def test_a_level_that_no_count_reaches_is_never_found() -> None:
    kgw = SCHEMES["kgw"]
    critical = power.critical_score(lambda score: kgw.log_p_value(score, 5), 1e-6, 1.25)

    assert critical >= 5
    assert math.isfinite(critical)


def test_variances_of_marked_scores() -> None:
    numbers = np.array([1.0, 1.5, 2.0, 7.3, 1e6])

    assert power._trigamma(numbers) == pytest.approx(polygamma(1, numbers), rel=1e-7)
