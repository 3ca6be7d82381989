"""Sketches: fixed bins, exact means, constant size."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.drift.sketch import Grid, Sketch

SIZES = Grid("size")


def sketch(values: np.ndarray, grid: Grid = SIZES) -> Sketch:
    made = Sketch.empty(grid)
    made.add(grid.bins(values), values)
    return made


def test_the_mean_is_the_datas_own_and_not_that_of_bins() -> None:
    values = np.random.default_rng(1).lognormal(5, 1.5, 3000).round()

    assert sketch(values).mean == pytest.approx(values.mean())


def test_neighbouring_sizes_share_a_bin_and_doubles_do_not() -> None:
    low, near, double = SIZES.bins(np.array([1000.0, 1001.0, 2000.0]))

    assert low == near
    assert double - low == 8


def test_what_is_not_known_is_not_counted() -> None:
    assert sketch(np.array([1.0, np.nan, 3.0])).samples == 2


@pytest.mark.parametrize(
    ("grid", "values", "bins"),
    [
        (Grid("flag"), [0, 1], [0, 1]),
        (Grid("class", classes=3), [0, 2, 9], [0, 2, 2]),
        (Grid("level", low=-1, high=1), [-5, -1, 0, 5], [0, 0, 64, 127]),
        (SIZES, [-1, 0, 1e12], [0, 0, 160]),
    ],
)
def test_values_outside_count_in_the_nearest_bin(grid: Grid, values: list[float], bins: list[int]) -> None:
    assert grid.bins(np.array(values, dtype=float)).tolist() == bins


def test_two_sketches_merge_into_that_of_all_values() -> None:
    values = np.random.default_rng(2).integers(1, 5000, 100).astype(float)

    merged = sketch(values[:40])
    merged.merge(sketch(values[40:]))

    assert merged.counts.tolist() == sketch(values).counts.tolist()
    assert merged.mean == pytest.approx(values.mean())
    assert merged.samples == 100
