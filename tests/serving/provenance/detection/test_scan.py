"""Marked parts of mixed texts: found where they are, and never more often by chance than stated."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from serving.provenance.detection.null import NULLS, BinomialNull, ExponentialNull, Null, TwoExponentialsNull
from serving.provenance.detection.scan import Scan, rate_of
from serving.provenance.detection.weighted import weights_of


def draws(null: Null, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(null, ExponentialNull):
        return rng.exponential(size=shape)
    if isinstance(null, TwoExponentialsNull):
        return null.heavy * rng.exponential(size=shape) + null.light * rng.exponential(size=shape)
    assert isinstance(null, BinomialNull)
    return rng.binomial(null.draws, null.share, size=shape).astype(float)


@pytest.mark.parametrize("name", NULLS)
def test_unmarked_texts_have_a_span_as_often_as_stated_and_not_far_less(name: str) -> None:
    null, texts = NULLS[name], 4000
    scan = Scan(null)
    evidence = scan.strongest(draws(null, np.random.default_rng(1), (texts, 200)))

    hits = sum(scan.log_p_value(one, 200, 1) < math.log(0.05) for one in evidence)

    assert binomtest(hits, texts, 0.05, alternative="greater").pvalue > 1e-3
    assert hits > texts * 0.05 / 4


@pytest.mark.parametrize("theta", [0.2, 0.4, 0.6])
def test_the_rate_of_exponential_scores_is_the_one_in_closed_form(theta: float) -> None:
    cost = -math.log1p(-theta)

    rate = rate_of(ExponentialNull(), theta)

    exact = theta * (1 - theta) * (1 - (1 - theta) * cost / theta)
    assert exact <= rate.per_token <= 1.2 * exact


@pytest.mark.parametrize("name", NULLS)
@pytest.mark.parametrize("excess", [0.25, 1.5])
def test_segments_begin_and_rise_no_more_often_than_their_rate(name: str, excess: float) -> None:
    null = NULLS[name]
    theta = null.theta(excess)
    rate = rate_of(null, theta)
    steps = theta * draws(null, np.random.default_rng(6), (4000, 150)) - null.log_mgf(theta)

    walk, highest = np.zeros(len(steps)), np.zeros(len(steps))
    for step in steps.T:
        walk = np.maximum(walk + step, 0)
        highest = np.maximum(highest, walk)

    for evidence in (4.0, 6.0):
        stated = (rate.per_token * 150 + rate.at_start) / math.expm1(evidence)
        hits = int((highest >= evidence).sum())
        assert binomtest(hits, len(steps), min(1.0, stated), alternative="greater").pvalue > 1e-3


def test_the_least_evidence_has_the_p_value_asked_for() -> None:
    scan = Scan(ExponentialNull())

    least = scan.least_evidence(1e-4, 1000, 50)

    assert scan.log_p_value(least, 1000, 50) == pytest.approx(math.log(1e-4))
    assert scan.log_p_value(0.0, 1000, 50) == 0


@pytest.mark.parametrize("name", NULLS)
def test_tilted_scores_are_what_the_null_says(name: str) -> None:
    null = NULLS[name]
    theta, cut = null.theta(0.25), 1.2 * null.mean * 5
    scores = draws(null, np.random.default_rng(5), (100_000, 5)).sum(axis=1)
    weights = np.exp(theta * scores - 5 * null.log_mgf(theta))

    assert null.above(cut, 5, 0.0) == pytest.approx((scores > cut).mean(), rel=0.05)
    assert null.above(cut, 5, theta) == pytest.approx(weights[scores > cut].sum() / len(scores), rel=0.05)


@pytest.mark.parametrize("name", NULLS)
def test_a_null_describes_its_scores(name: str) -> None:
    null = NULLS[name]
    scores = draws(null, np.random.default_rng(2), (400_000,))
    theta = null.theta(0.25)

    assert scores.mean() == pytest.approx(null.mean, rel=0.01)
    assert scores.var() == pytest.approx(null.variance, rel=0.02)
    assert math.log(np.exp(theta * scores).mean()) == pytest.approx(null.log_mgf(theta), abs=0.01)


def test_segments_are_where_scores_are_high() -> None:
    rng = np.random.default_rng(3)
    scores = rng.exponential(size=600)
    scores[100:180] *= 3
    scores[400:460] *= 3
    scan = Scan(ExponentialNull())

    found = scan.segments(scores, scan.least_evidence(1e-3, 600, 10))

    assert len(found) == 2
    early, late = sorted(found, key=lambda segment: segment.first)
    assert abs(early.first - 100) < 12
    assert abs(early.last - 179) < 12
    assert abs(late.first - 400) < 12
    assert abs(late.last - 459) < 12


def test_the_strongest_of_many_keys_is_that_of_its_segments() -> None:
    scores = np.random.default_rng(4).exponential(size=(30, 150)) * 1.3
    scan = Scan(ExponentialNull())

    strongest = scan.strongest(scores)

    assert strongest == pytest.approx([scan.segments(row, 0.0)[0].evidence for row in scores])


def marked_part(rng: np.random.Generator, shape: tuple[int, int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and scores of texts of which some tokens from 150 on are marked, as far as they left a choice."""
    expected = rng.choice([1.0, 5.0], shape, p=[0.85, 0.15])
    scores = rng.exponential(size=shape)
    scores[:, 150 : 150 + size] *= expected[:, 150 : 150 + size]
    return weights_of(expected), scores


def test_weights_find_parts_that_are_missed_without_them() -> None:
    weights, scores = marked_part(np.random.default_rng(7), (60, 400), 75)
    found = np.zeros(2)
    for row, weight in zip(scores, weights, strict=True):
        for number, scan in enumerate((Scan(ExponentialNull()), Scan(ExponentialNull(), weight))):
            found[number] += scan.strongest(row[None])[0] >= scan.least_evidence(1e-6, 400, 1)

    assert found[1] > found[0] + 10, found


def test_weights_make_no_spans_in_unmarked_texts() -> None:
    rng = np.random.default_rng(8)
    scan = Scan(ExponentialNull(), weights_of(1 + rng.exponential(size=200) ** 3))

    evidence = scan.strongest(rng.exponential(size=(4000, 200)))

    hits = int((evidence >= scan.least_evidence(0.05, 200, 1)).sum())
    assert binomtest(hits, 4000, 0.05, alternative="greater").pvalue > 1e-3


def test_segments_with_weights_are_in_their_places() -> None:
    weights, scores = marked_part(np.random.default_rng(9), (1, 400), 150)
    scan = Scan(ExponentialNull(), weights[0])

    found = scan.segments(scores[0], scan.least_evidence(1e-3, 400, 1))

    assert len(found) == 1
    assert found[0].evidence == pytest.approx(scan.strongest(scores)[0])
    assert abs(found[0].first - 150) < 25
    assert abs(found[0].last - 299) < 25


@pytest.mark.parametrize("scores", [np.zeros(0), np.full(1, 0.1)])
def test_a_short_text_has_no_segment(scores: np.ndarray) -> None:
    assert Scan(ExponentialNull()).segments(scores, 1.0) == []
