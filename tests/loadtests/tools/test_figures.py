from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.tools.figures import added, median_of, median_ratio, medians, percentile, spread


@pytest.mark.parametrize(
    ("percent", "expected"),
    [
        pytest.param(50, 50, id="median"),
        pytest.param(99, 99, id="p99"),
        pytest.param(99.5, 100, id="between ranks goes up"),
        pytest.param(100, 100, id="maximum"),
        pytest.param(0.1, 1, id="minimum"),
    ],
)
def test_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(1, 100))
def test_percentile_leaves_at_most_its_share_above_it(values: list[float], percent: float) -> None:
    found = percentile(values, percent)

    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) * (1 - 1e-12)


def test_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(percentile([], 50))


def test_percentile_refuses_a_percent_out_of_range() -> None:
    with pytest.raises(ValueError, match="percent is 0"):
        percentile([1.0], 0)


def test_added_pairs_the_rounds() -> None:
    """A busy round moves both sides; the difference within the round is what counts."""
    direct = [{"p50": 1.0}, {"p50": 51.0}, {"p50": 2.0}]
    through = [{"p50": 1.5}, {"p50": 51.5}, {"p50": 2.5}]

    assert added(through, direct, "p50") == 0.5


def test_added_needs_as_many_rounds_on_both_sides() -> None:
    with pytest.raises(ValueError, match="longer"):
        added([{"p50": 1.0}], [{"p50": 1.0}, {"p50": 2.0}], "p50")


def test_medians_skip_rounds_that_measured_nothing() -> None:
    rounds = [{"a": 1.0, "b": math.nan}, {"a": 3.0, "b": 5.0}, {"a": 2.0}]

    assert medians(rounds) == {"a": 2.0, "b": 5.0}


def test_median_of_nothing_is_not_a_number() -> None:
    assert math.isnan(median_of([math.nan]))


def test_median_ratio_is_of_the_paired_ratios() -> None:
    assert median_ratio([9.0, 100.0, 19.0], [10.0, 100.0, 20.0]) == statistics.median([0.9, 1.0, 0.95])


def test_spread_is_smallest_and_largest() -> None:
    assert spread([3.0, 1.0, 2.0]) == (1.0, 3.0)
