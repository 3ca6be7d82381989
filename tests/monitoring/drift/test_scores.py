"""The bands hold the true mean as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from monitoring.drift.scores import make_scores, rank_tolerance, rate_band
from monitoring.drift.sketch import Grid, Sketch


def reference(values: np.ndarray, grid: Grid) -> Sketch:
    made = Sketch.empty(grid)
    made.add(grid.bins(values), values)
    return made


@pytest.mark.parametrize("samples", [30, 400])
@pytest.mark.parametrize("kind", ["lengths", "ties"])
def test_ranks_and_ends_of_new_values_have_a_mean_in_their_bands(samples: int, kind: str) -> None:
    """400 references: at most as many miss as an error of 0.3 allows, of rank and ends together."""
    random = np.random.default_rng(samples)
    grid = Grid("size")
    draw = (
        (lambda number: random.lognormal(5, 1.2, number).round())
        if kind == "lengths"
        else (lambda number: random.choice([3.0, 40.0, 50.0], number, p=[0.2, 0.5, 0.3]))
    )
    population = np.bincount(grid.bins(draw(400_000)), minlength=grid.num_bins) / 400_000

    missed = 0
    for _ in range(400):
        scores = make_scores(grid, reference(draw(samples), grid), error=0.3, tolerance=0)
        means = scores.values @ population
        missed += bool(np.any((means < scores.low - 1e-9) | (means > scores.high + 1e-9)))

    assert missed <= stats.binom.ppf(0.999, 400, 0.3)


def test_the_band_of_ranks_is_no_wider_than_it_must_be() -> None:
    """At 1% error, about three standard deviations 1 / sqrt(12 n)."""
    values = np.random.default_rng(1).lognormal(5, 1, 1200).round()

    scores = make_scores(Grid("size"), reference(values, Grid("size")), error=0.01, tolerance=0)

    assert (scores.high[0] - 0.5) * np.sqrt(12 * 1200) < 3.6


@pytest.mark.parametrize(("hits", "samples"), [(0, 50), (3, 200), (100, 200), (200, 200)])
def test_rates_lie_in_a_band_around_the_exact_one(hits: int, samples: int) -> None:
    low, high = rate_band(hits, samples, 0.02, 0)
    exact = stats.binomtest(hits, samples).proportion_ci(0.98)

    assert low <= exact.low + 1e-9
    assert high >= exact.high - 1e-9
    assert high - low < 2 * (exact.high - exact.low)


def test_tolerances_are_standard_effects() -> None:
    shifted = np.random.default_rng(3).normal(0.2, 1, (2, 400_000))
    superior = np.mean(shifted[0] > shifted[1] - 0.2)

    assert 0.5 + rank_tolerance(0.2) == pytest.approx(superior, abs=0.002)
    low, high = rate_band(50_000, 100_000, 0.5, 0.2)
    assert 2 * (np.arcsin(np.sqrt(high)) - np.arcsin(np.sqrt(0.5))) == pytest.approx(0.2, abs=0.01)
    assert low == pytest.approx(1 - high, abs=1e-6)


def test_a_class_has_a_score_of_its_own() -> None:
    grid = Grid("class", classes=4)

    scores = make_scores(grid, reference(np.array([0.0] * 90 + [2.0] * 10), grid), error=0.05, tolerance=0)

    assert scores.names == ("0", "1", "2", "3")
    assert scores.values.tolist() == np.eye(4).tolist()
    assert scores.low[0] < 0.9 < scores.high[0]
    assert scores.high[3] < 0.12
