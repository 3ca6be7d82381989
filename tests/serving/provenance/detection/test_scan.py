"""Marked parts of mixed texts: found where they are, and never more often by chance than stated."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from serving.provenance.detection.null import NULLS, BinomialNull, ExponentialNull, Null, TwoExponentialsNull
from serving.provenance.detection.scan import Scan, least_evidence, log_p_value


def draws(null: Null, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(null, ExponentialNull):
        return rng.exponential(size=shape)
    if isinstance(null, TwoExponentialsNull):
        return null.heavy * rng.exponential(size=shape) + null.light * rng.exponential(size=shape)
    assert isinstance(null, BinomialNull)
    return rng.binomial(null.draws, null.share, size=shape).astype(float)


@pytest.mark.parametrize("name", NULLS)
def test_unmarked_texts_have_a_span_no_more_often_than_stated(name: str) -> None:
    null = NULLS[name]
    texts = 4000
    evidence = Scan(null).strongest(draws(null, np.random.default_rng(1), (texts, 200)))

    hits = sum(log_p_value(one, 200, 1) < math.log(0.05) for one in evidence)

    assert hits > 0
    assert binomtest(hits, texts, 0.05, alternative="greater").pvalue > 1e-3


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

    found = Scan(ExponentialNull()).segments(scores, least_evidence(1e-3, 600, 10))

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


@pytest.mark.parametrize("scores", [np.zeros(0), np.full(1, 0.1)])
def test_a_short_text_has_no_segment(scores: np.ndarray) -> None:
    assert Scan(ExponentialNull()).segments(scores, 1.0) == []
