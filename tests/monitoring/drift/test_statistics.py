"""Our statistics beside scipy's."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.drift.statistics import (
    chi_square_tail,
    fisher_p_value,
    homogeneity_p_value,
    population_stability_index,
    two_proportions_p_value,
)

counts = st.lists(st.integers(0, 500), min_size=2, max_size=12)


@given(statistic=st.floats(0.001, 400), degrees=st.integers(1, 60))
def test_chi_square_tail(statistic: float, degrees: int) -> None:
    assert chi_square_tail(statistic, degrees) == pytest.approx(stats.chi2.sf(statistic, degrees), rel=1e-9, abs=1e-300)


def test_chi_square_tail_of_nothing() -> None:
    assert chi_square_tail(0.0, 3) == 1.0


@given(reference=st.lists(st.integers(50, 500), min_size=2, max_size=12), data=st.data())
def test_homogeneity_with_full_bins_is_scipys(reference: list[int], data: st.DataObject) -> None:
    size = len(reference)
    current = data.draw(st.lists(st.integers(50, 500), min_size=size, max_size=size))

    expected = stats.chi2_contingency(np.array([reference, current]), correction=False).pvalue

    assert homogeneity_p_value(reference, current) == pytest.approx(expected, rel=1e-8, abs=1e-300)


@given(reference=counts, data=st.data())
def test_homogeneity_holds_for_any_counts(reference: list[int], data: st.DataObject) -> None:
    current = data.draw(st.lists(st.integers(0, 500), min_size=len(reference), max_size=len(reference)))

    p_value = homogeneity_p_value(reference, current)

    assert 0 <= p_value <= 1
    assert p_value == pytest.approx(homogeneity_p_value(current, reference))


def test_homogeneity_rejects_no_more_often_than_it_says() -> None:
    """2,000 pairs from one distribution with a sparse tail: at most 1% (plus its interval) below 0.01."""
    random = np.random.default_rng(1)
    shares = np.array([0.3, 0.3, 0.2, 0.1, 0.05, 0.03, 0.015, 0.005])

    rejected = sum(
        homogeneity_p_value(random.multinomial(2000, shares).tolist(), random.multinomial(150, shares).tolist()) < 0.01
        for _ in range(2000)
    )

    assert rejected <= stats.binom.ppf(0.9999, 2000, 0.01)


@given(total_a=st.integers(1, 200), total_b=st.integers(1, 200), data=st.data())
def test_fisher(total_a: int, total_b: int, data: st.DataObject) -> None:
    hits_a, hits_b = data.draw(st.integers(0, total_a)), data.draw(st.integers(0, total_b))

    expected = stats.fisher_exact([[hits_a, total_a - hits_a], [hits_b, total_b - hits_b]]).pvalue

    assert fisher_p_value(hits_a, total_a, hits_b, total_b) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(total_a=st.integers(200, 5000), total_b=st.integers(200, 5000), data=st.data())
def test_two_proportions_with_many_hits_is_the_z_test(total_a: int, total_b: int, data: st.DataObject) -> None:
    hits_a = data.draw(st.integers(total_a // 4, total_a // 2))
    hits_b = data.draw(st.integers(total_b // 4, total_b // 2))

    # The pooled z-test is the chi-square test of the two-by-two table.
    table = [[hits_a, total_a - hits_a], [hits_b, total_b - hits_b]]
    expected = stats.chi2_contingency(table, correction=False).pvalue

    assert two_proportions_p_value(hits_a, total_a, hits_b, total_b) == pytest.approx(expected, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("counted", [(0, 0, 1, 5), (1, 5, 0, 0), (0, 10, 0, 10), (10, 10, 7, 7)])
def test_two_proportions_without_information(counted: tuple[int, int, int, int]) -> None:
    assert two_proportions_p_value(*counted) == 1.0


def test_rare_hits_are_tested_exactly_and_quickly() -> None:
    started = time.thread_time()

    p_value = two_proportions_p_value(3, 1_000_000, 9, 200_000)

    assert p_value == pytest.approx(stats.fisher_exact([[3, 999_997], [9, 199_991]]).pvalue, rel=1e-4)
    assert time.thread_time() - started < 1


@given(reference=counts, data=st.data())
def test_psi_is_a_distance(reference: list[int], data: st.DataObject) -> None:
    current = data.draw(st.lists(st.integers(0, 500), min_size=len(reference), max_size=len(reference)))

    index = population_stability_index(reference, current)

    assert index >= 0
    assert math.isfinite(index)
    assert index == pytest.approx(population_stability_index(current, reference))
    assert population_stability_index(reference, reference) == 0


def test_psi_is_the_symmetric_divergence() -> None:
    reference, current = [1000, 3000, 6000], [2000, 3000, 5000]
    p, q = np.array(reference) / 10_000, np.array(current) / 10_000

    assert population_stability_index(reference, current) == pytest.approx(
        stats.entropy(p, q) + stats.entropy(q, p), rel=1e-3
    )
