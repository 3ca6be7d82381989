"""The small network that says of what a sentence encoder read whether it asks for something harmful."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """The small network, and the calibration of both margins together."""

    hidden: NDArray[np.float16]
    """Width of the encoder by number of hidden units; what scales the encoder's numbers is in it."""
    hidden_bias: Floats
    out: Floats
    bias: float
    slope: float
    offset: float
    """Platt's: the probability is sigmoid(slope * margin + offset)."""
    threshold: float
    digest: str
    """Of the encoder that it was trained on."""

    def margins(self, rows: Floats) -> Floats:
        """One for each view."""
        inner = np.maximum(rows @ self.hidden.astype(np.float32) + self.hidden_bias, 0)
        result: Floats = inner @ self.out + np.float32(self.bias)
        return result

    def probability(self, margin: float) -> float:
        return calibrated(margin, self.slope, self.offset)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For the file of weights."""
        numbers = (self.bias, self.slope, self.offset, self.threshold)
        return {
            "hidden": self.hidden,
            "hidden_bias": self.hidden_bias,
            "out": self.out,
            "numbers": np.array(numbers, dtype=np.float64),
            "digest": np.array([self.digest]),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Head:
        bias, slope, offset, threshold = (float(number) for number in arrays["numbers"])
        kernel, kernel_bias, out = arrays["hidden"], arrays["hidden_bias"], arrays["out"]
        return cls(kernel, kernel_bias, out, bias, slope, offset, threshold, str(arrays["digest"][0]))


def calibrated(margin: float, slope: float, offset: float) -> float:
    """Platt's probability of a margin."""
    return float(1 / (1 + np.exp(-np.clip(slope * margin + offset, -30, 30))))
