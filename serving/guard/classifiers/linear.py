"""A trained classifier: logistic regression over hashed n-grams and signs, calibrated. Needs numpy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.guard.classifiers.ngrams import NUM_BUCKETS, Hashes, hashed, normal
from serving.guard.classifiers.signs import NAMES, signs

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LinearModel:
    """One category's weights."""

    grams: NDArray[np.float16]
    """A weight for each bucket."""
    named: Floats
    """A weight for each sign, then for each sign of the whole that the caller adds."""
    bias: float
    slope: float
    offset: float
    """Platt's calibration: the probability is sigmoid(slope * margin + offset)."""
    threshold: float
    """The probability from which on a text is flagged, chosen on harmless calibration texts."""

    def margin(self, text: str, extra: Sequence[float] = ()) -> float:
        """How far on the side of the category; `extra` are signs that the text alone does not show."""
        plain = normal(text)
        buckets, values = hashed(plain)
        named = np.concatenate((signs(text, plain), np.array(extra, dtype=np.float32)))
        return float(self.grams[buckets].astype(np.float32) @ values + named @ self.named + self.bias)

    def probability(self, margin: float) -> float:
        """Calibrated on texts, not on windows: for the largest margin of a text's windows."""
        return float(1 / (1 + np.exp(-np.clip(self.slope * margin + self.offset, -30, 30))))


@dataclass(frozen=True, slots=True)
class Weights:
    """What one file holds."""

    models: Mapping[str, LinearModel]
    """By category."""
    lexicon: Hashes
    """Hashes of offensive words, rising."""
    severity: NDArray[np.float16]
    """How offensive each is, from 0 to 1."""


def save(path: Path, weights: Weights) -> None:
    """Write weights as one file, the same bytes for the same weights."""
    arrays: dict[str, NDArray[Any]] = {"lexicon": weights.lexicon, "severity": weights.severity}
    arrays["features"] = np.array([_FEATURES])
    for category, model in sorted(weights.models.items()):
        arrays[f"{category}/grams"] = model.grams
        arrays[f"{category}/named"] = model.named
        numbers = (model.bias, model.slope, model.offset, model.threshold)
        arrays[f"{category}/numbers"] = np.array(numbers, dtype=np.float64)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load(path: Path) -> Weights:
    """Read what `save` wrote.

    Raises:
        ValueError: the file was made for other features.
    """
    with np.load(path, allow_pickle=False) as arrays:
        if str(arrays["features"][0]) != _FEATURES:
            raise ValueError(f"{path} was trained for other features; train it again.")
        categories = sorted({name.split("/")[0] for name in arrays.files if "/" in name})
        models = {
            category: LinearModel(
                arrays[f"{category}/grams"],
                arrays[f"{category}/named"],
                *(float(number) for number in arrays[f"{category}/numbers"]),
            )
            for category in categories
        }
        return Weights(models, arrays["lexicon"], arrays["severity"])


_FEATURES = f"{NUM_BUCKETS} buckets; {' '.join(NAMES)}"
"""What the weights belong to: others would give nonsense."""
