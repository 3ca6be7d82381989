"""The power that is predicted before a text is tested, against the power that marked texts have."""

import math

import numpy as np
import pytest
from scipy.stats import gamma

from serving.provenance.detection import power
from serving.provenance.detection.drawn import Drawn
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


@pytest.mark.parametrize(("num_tokens", "nats"), [(12, 2.0), (40, 0.5), (120, 0.5), (400, 0.5)])
def test_prediction_from_probabilities_is_within_two_points(num_tokens: int, nats: float) -> None:
    probabilities = np.random.default_rng(num_tokens).choice(power.typical_probabilities(nats), num_tokens)
    totals = marked_totals(probabilities, 20_000)
    told = power.marked_score(GUMBEL, ExponentialNull(), Drawn(probabilities), apart(num_tokens), None)

    assert totals.mean() == pytest.approx(told.mean, rel=0.01)
    assert totals.var() == pytest.approx(told.variance, rel=0.05)
    for level in (1e-2, 1e-4, 1e-7):
        critical = power.critical_score(lambda score: GUMBEL.log_p_value(score, num_tokens), level, num_tokens)
        assert critical == pytest.approx(gamma.isf(level, num_tokens), rel=1e-4)
        assert power.power(told, critical) == pytest.approx((totals >= critical).mean(), abs=0.02)


def test_the_opening_is_over_when_draws_could_have_differed_enough() -> None:
    """What is counted where it is known is collision entropy, as the engine does, and not surprise."""
    probabilities = np.full(8, 0.01)
    nats = np.array([2.0, 2.0, 0.5, 0.2, 0.2, 0.0, 0.0, 0.0])
    gain = GUMBEL.marked_scores(np.array([0.01])).mean[0]

    told = power.marked_score(GUMBEL, ExponentialNull(), Drawn(probabilities, nats), apart(8), None)

    assert told.mean == pytest.approx(8 + 4 * gain)
    assert power.marked_score(GUMBEL, ExponentialNull(), Drawn(probabilities), apart(8), None).mean > told.mean + gain


def test_places_that_the_engine_does_not_count_do_not_end_the_opening() -> None:
    ids = [*[1, 2, 3, 4, 5] * 3, 6, 7]  # contexts that come again are in no opening
    probabilities = np.where(np.arange(len(ids)) < 10, 0.8, 0.5)
    nats = np.where((np.arange(len(ids)) >= 9) & (np.arange(len(ids)) < 15), 5.0, 0.1)

    told = power.marked_score(GUMBEL, ExponentialNull(), Drawn(probabilities, nats), GUMBEL.pairs(ids), None)

    assert told.mean == pytest.approx(len(GUMBEL.pairs(ids)))


def test_the_token_that_ends_the_opening_is_not_marked_yet() -> None:
    probabilities = np.array([math.exp(-power.OPENING_SURPRISAL), 0.5])

    told = power.marked_score(GUMBEL, ExponentialNull(), Drawn(probabilities), apart(2), None)

    assert told.mean == pytest.approx(2 + GUMBEL.marked_scores(np.array([0.5])).mean[0])


def test_tokens_that_are_not_scored_are_part_of_the_opening() -> None:
    synthid, null = SCHEMES["synthid"], NULLS["synthid"]
    pairs = synthid.pairs(range(5))  # of these only the last is scored
    sure, surprising = np.full(5, 0.5), np.array([0.001, 0.5, 0.5, 0.5, 0.5])

    assert power.marked_score(synthid, null, Drawn(sure), pairs, None).mean == pytest.approx(null.mean)
    assert power.marked_score(synthid, null, Drawn(surprising), pairs, None).mean > null.mean + 1


def test_typical_text_has_the_stated_entropy() -> None:
    surprisals = -np.log(power.typical_probabilities(0.7))

    assert surprisals.mean() == pytest.approx(0.7)
    assert (surprisals < 0.1).mean() > 0.25


def test_typical_score_is_that_of_texts_whose_tokens_are_typical() -> None:
    grid = power.typical_probabilities(0.8)
    rng = np.random.default_rng(2)
    texts = [
        power.marked_score(GUMBEL, ExponentialNull(), Drawn(rng.choice(grid, 300)), apart(300), None)
        for _ in range(300)
    ]

    told = power.typical_score(GUMBEL, ExponentialNull(), 300, 300, 0.8)

    assert np.mean([text.mean for text in texts]) == pytest.approx(told.mean, rel=0.01)
    spread = np.mean([text.variance for text in texts]) + np.var([text.mean for text in texts])
    assert spread == pytest.approx(told.variance, rel=0.15)


def test_text_without_any_choice_carries_no_mark() -> None:
    told = power.marked_score(GUMBEL, ExponentialNull(), Drawn(np.ones(200)), apart(200), None)

    assert list(told) == [200, 200, 400]
    assert power.power(told, float(gamma.isf(1e-3, 200))) == pytest.approx(1e-3, abs=2e-4)


def test_a_context_that_comes_again_is_not_expected_to_be_marked() -> None:
    pairs = GUMBEL.pairs([1, 2, 3, 4, 5, 1, 2, 3, 4, 6, 1, 2, 3, 4, 7])

    assert power.fresh(pairs)[[4, 9, 13]].tolist() == [True, False, True]
    assert power.fresh(pairs).sum() == len(pairs) - 2


def test_a_level_that_no_count_reaches_is_never_found() -> None:
    kgw = SCHEMES["kgw"]
    critical = power.critical_score(lambda score: kgw.log_p_value(score, 5), 1e-6, 1.25)

    assert critical >= 5
    assert math.isfinite(critical)
    assert power.power(power.Total(5, 1, 0), math.inf) == 0
