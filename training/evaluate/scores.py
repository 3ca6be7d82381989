"""Figures with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Of the bootstrap (Efron 1979): enough for two digits of a 95% interval.
RESAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def figures(self, name: str) -> dict[str, float]:
        """As manifests and `--json` write it."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def mean_score(values: NDArray[Any], seed: int = 0) -> Score:
    """The mean of some measurements, with an interval by resampling them."""
    # How often each is drawn in each resample.
    often = np.random.default_rng(seed).multinomial(len(values), [1 / len(values)] * len(values), size=RESAMPLES)
    low, high = np.quantile(often @ values / len(values), [0.025, 0.975])
    return Score(float(values.mean()), float(low), float(high))
