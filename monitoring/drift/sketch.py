"""Sketches: a feature's values counted in bins that are fixed in advance, with their exact sum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Bins = NDArray[np.int64]
Values = NDArray[np.float64]

_PER_OCTAVE = 8
"""Bins for each doubling of a size: neighbours differ by 9%."""
_OCTAVES = 20
_LEVELS = 128


@dataclass(frozen=True, slots=True)
class Grid:
    """Which bin a value falls into. It does not depend on data, so a sketch's counts are plain multinomial counts."""

    kind: Literal["size", "level", "flag", "class"]
    """`size`: not negative, in logarithms. `level`: from `low` to `high`. `flag`: 0 or 1. `class`: 0 to `classes`."""
    unit: float = 1.0
    """Sizes well below it are told apart no more."""
    low: float = 0.0
    high: float = 1.0
    classes: int = 2

    @property
    def num_bins(self) -> int:
        """How many there are."""
        return {"size": _PER_OCTAVE * _OCTAVES + 1, "level": _LEVELS, "flag": 2, "class": self.classes}[self.kind]

    def bins(self, values: Values) -> Bins:
        """Bin of each value; -1 where it is NaN. What lies outside counts in the nearest."""
        absent = np.isnan(values)
        filled = np.where(absent, 0.0, values)
        if self.kind == "size":
            places = np.rint(_PER_OCTAVE * np.log2(1 + np.maximum(filled, 0) / self.unit))
        elif self.kind == "level":
            places = np.floor((filled - self.low) / (self.high - self.low) * _LEVELS)
        else:
            places = filled
        found: Bins = np.where(absent, -1, np.clip(places, 0, self.num_bins - 1)).astype(np.int64)
        return found


@dataclass(slots=True)
class Sketch:
    """How many values fell into each bin, and what they sum to. Takes the same memory whatever it has counted."""

    counts: Bins
    total: float = 0.0
    samples: int = field(init=False)

    def __post_init__(self) -> None:
        self.samples = int(self.counts.sum())

    @classmethod
    def empty(cls, grid: Grid) -> Sketch:
        """A sketch that has counted nothing."""
        return cls(np.zeros(grid.num_bins, dtype=np.int64))

    def add(self, bins: Bins, values: Values) -> None:
        """Count values that fall into `bins`; -1 is left out."""
        there = bins >= 0
        self.counts += np.bincount(bins[there], minlength=len(self.counts))
        self.total += float(values[there].sum())
        self.samples += int(there.sum())

    def merge(self, other: Sketch) -> None:
        """Count what another sketch of the same grid has counted."""
        self.counts += other.counts
        self.total += other.total
        self.samples += other.samples

    def holds_the_same_as(self, other: Sketch) -> bool:
        """Whether both have counted the same."""
        return self.total == other.total and np.array_equal(self.counts, other.counts)

    @property
    def mean(self) -> float:
        """Exact mean; NaN of nothing."""
        return self.total / self.samples if self.samples else float("nan")
