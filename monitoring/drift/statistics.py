"""Two-sample statistics for counts: small, exact where that is cheap, compared with scipy by the tests."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Cochran's rule: below five expected in a cell the chi-square and normal approximations are not to be trusted.
_MIN_EXPECTED = 5.0


def population_stability_index(reference: Sequence[int], current: Sequence[int]) -> float:
    """PSI, the symmetric Kullback-Leibler divergence of two histograms over the same bins, in nats.

    By custom below 0.1 is stable and above 0.2 has shifted. Half a count is added to every bin (Jeffreys' prior),
    so that an empty bin does not make it infinite.
    """
    p_total = sum(reference) + 0.5 * len(reference)
    q_total = sum(current) + 0.5 * len(current)
    index = 0.0
    for in_reference, in_current in zip(reference, current, strict=True):
        p, q = (in_reference + 0.5) / p_total, (in_current + 0.5) / q_total
        index += (q - p) * math.log(q / p)
    return index


def homogeneity_p_value(reference: Sequence[int], current: Sequence[int]) -> float:
    """Chi-square test that two histograms over the same bins come from one distribution.

    Neighbouring bins are merged until each has at least five expected in both; 1.0 when one bin is left.
    """
    merged = _merge_bins(reference, current)
    if len(merged) < 2:
        return 1.0
    totals = [sum(column) for column in zip(*merged, strict=True)]
    grand = sum(totals)
    statistic = 0.0
    for row in merged:
        for observed, total in zip(row, totals, strict=True):
            expected = sum(row) * total / grand
            statistic += (observed - expected) ** 2 / expected
    return chi_square_tail(statistic, len(merged) - 1)


def _merge_bins(reference: Sequence[int], current: Sequence[int]) -> list[tuple[int, int]]:
    smaller_share = min(sum(reference), sum(current)) / max(1, sum(reference) + sum(current))
    merged: list[tuple[int, int]] = []
    first = second = 0
    for in_reference, in_current in zip(reference, current, strict=True):
        first, second = first + in_reference, second + in_current
        if (first + second) * smaller_share >= _MIN_EXPECTED:
            merged.append((first, second))
            first = second = 0
    if (first or second) and merged:  # what is left over joins the last bin
        last = merged.pop()
        merged.append((last[0] + first, last[1] + second))
    return merged


def chi_square_tail(statistic: float, degrees: int) -> float:
    """P(X >= statistic) of a chi-square with whole `degrees` of freedom: a finite sum, exact.

    Abramowitz & Stegun 26.4.4 (odd) and 26.4.5 (even), summed in logarithms.
    """
    if statistic <= 0:
        return 1.0
    half = statistic / 2
    if degrees % 2:
        tail, power = math.erfc(math.sqrt(half)), 0.5
    else:
        tail, power = math.exp(-half), 1.0
    while power < degrees / 2:
        tail += math.exp(power * math.log(half) - half - math.lgamma(power + 1))
        power += 1
    return min(1.0, tail)


def two_proportions_p_value(hits_a: int, total_a: int, hits_b: int, total_b: int) -> float:
    """Two-sided test that two rates are equal: pooled z, or Fisher's exact test where counts are small."""
    hits, total = hits_a + hits_b, total_a + total_b
    if not total_a or not total_b or hits in (0, total):
        return 1.0
    if min(total_a, total_b) * min(hits, total - hits) / total < _MIN_EXPECTED:
        return fisher_p_value(hits_a, total_a, hits_b, total_b)
    pooled = hits / total
    error = math.sqrt(pooled * (1 - pooled) * (1 / total_a + 1 / total_b))
    z = (hits_a / total_a - hits_b / total_b) / error
    return math.erfc(abs(z) / math.sqrt(2))


def fisher_p_value(hits_a: int, total_a: int, hits_b: int, total_b: int) -> float:
    """Fisher's exact test, two-sided: the probability of all tables no likelier than the observed one."""
    hits, total = hits_a + hits_b, total_a + total_b

    def log_probability(in_a: int) -> float:
        return _log_choose(total_a, in_a) + _log_choose(total_b, hits - in_a) - _log_choose(total, hits)

    # Ties are common, and the logarithms of equal probabilities differ in their last digits.
    observed = log_probability(hits_a) + 1e-9
    possible = range(max(0, hits - total_b), min(total_a, hits) + 1)
    likely = (log_probability(in_a) for in_a in possible)
    return min(1.0, math.fsum(math.exp(value) for value in likely if value <= observed))


def _log_choose(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)
