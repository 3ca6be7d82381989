"""The arithmetic of the benchmark: percentiles, medians over rounds, what a gateway adds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: always a value that was measured. NaN for no values."""
    if not 0 < percent <= 100:
        raise ValueError(f"percent is {percent}, must be above 0 and at most 100")
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1]


def median_of(values: Iterable[float]) -> float:
    """The median of the values that were measured; NaN where none was."""
    measured = [value for value in values if not math.isnan(value)]
    return median(measured) if measured else math.nan


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each figure's median over the rounds."""
    names = {name: None for figures in rounds for name in figures}
    return {name: median_of(figures.get(name, math.nan) for figures in rounds) for name in names}


def added(rounds: Sequence[Mapping[str, float]], direct: Sequence[Mapping[str, float]], name: str) -> float:
    """The median over rounds of (through the gateway - direct): paired, so that a busy round moves both."""
    return median_of(
        through[name] - straight[name]
        for through, straight in zip(rounds, direct, strict=True)
        if name in through and name in straight
    )


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median over rounds of numerator / denominator, paired by round."""
    return median_of(top / bottom for top, bottom in zip(numerators, denominators, strict=True))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest of the values: what a reader needs beside a median of few rounds."""
    return (min(values), max(values)) if values else (math.nan, math.nan)
