"""A trained classifier: calibrated logistic regression over n-grams, lexical features and word vectors; only numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.guard.classifiers.head import Floats, Head, calibrated
from serving.guard.classifiers.lexical_features import NAMES, lexical_features
from serving.guard.classifiers.ngrams import NUM_BUCKETS, Grams, Hashes, hashed, normal
from serving.guard.classifiers.word_vectors import NUM_DIMENSIONS, WordVectors


@dataclass(frozen=True, slots=True)
class Features:
    """What models see of some texts: one reading serves several categories."""

    grams: Grams
    named: Floats
    """A row for each text: its lexical features, its word vector, and the features that the caller adds."""


def read_features(
    texts: Sequence[str], word_vectors: WordVectors, extra: Sequence[Sequence[float]] | None = None
) -> Features:
    """Read texts; `extra` are further features of each, which the text alone does not show."""
    plain = [normal(text) or " " for text in texts]
    parts = [
        np.stack([lexical_features(text, read) for text, read in zip(texts, plain, strict=True)]),
        word_vectors.features(plain),
    ]
    if extra is not None:
        parts.append(np.array(extra, dtype=np.float32).reshape(len(texts), -1))
    return Features(hashed(plain), np.concatenate(parts, axis=1))


@dataclass(frozen=True, slots=True)
class LinearModel:
    """One category's weights."""

    grams: NDArray[np.float16]
    """A weight for each bucket."""
    named: Floats
    """A weight for each number of `Features.named`."""
    bias: float
    slope: float
    offset: float
    """Platt's calibration: the probability is sigmoid(slope * margin + offset)."""
    threshold: float
    """The probability from which on a text is flagged, chosen on harmless calibration texts."""

    def margins(self, features: Features) -> Floats:
        """How far each text is on the side of the category."""
        grams = features.grams
        products = self.grams[grams.buckets].astype(np.float32) * grams.values
        summed = np.bincount(grams.owners, products, len(features.named)).astype(np.float32)
        result: Floats = summed + features.named @ self.named + np.float32(self.bias)
        return result

    def probability(self, margin: float) -> float:
        """Calibrated on texts, not on windows: for the largest margin of a text's windows."""
        return calibrated(margin, self.slope, self.offset)


@dataclass(frozen=True, slots=True)
class Weights:
    """What one file holds."""

    models: Mapping[str, LinearModel]
    """By category."""
    lexicon: Hashes
    """Hashes of offensive words, rising."""
    severity: NDArray[np.float16]
    """How offensive each is, from 0 to 1."""
    word_vectors: WordVectors
    encoder_head: Head | None = None
    """Where one was trained."""


def save(path: Path, weights: Weights) -> None:
    """Write weights as one file, the same bytes for the same weights."""
    arrays: dict[str, NDArray[Any]] = {"lexicon": weights.lexicon, "severity": weights.severity}
    arrays["meanings"], arrays["vectors"] = weights.word_vectors.words, weights.word_vectors.vectors
    arrays["features"] = np.array([_FEATURES])
    for category, model in sorted(weights.models.items()):
        arrays[f"{category}/grams"] = model.grams
        arrays[f"{category}/named"] = model.named
        numbers = (model.bias, model.slope, model.offset, model.threshold)
        arrays[f"{category}/numbers"] = np.array(numbers, dtype=np.float64)
    if weights.encoder_head is not None:
        arrays |= {f"{_SECOND_LOOK}/{name}": array for name, array in weights.encoder_head.arrays().items()}
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
        parts = {name.split("/")[0] for name in arrays.files if "/" in name}
        categories = sorted(parts - {_SECOND_LOOK})
        models = {
            category: LinearModel(
                arrays[f"{category}/grams"],
                arrays[f"{category}/named"],
                *(float(number) for number in arrays[f"{category}/numbers"]),
            )
            for category in categories
        }
        word_vectors = WordVectors(arrays["meanings"], arrays["vectors"])
        own = f"{_SECOND_LOOK}/"
        head_arrays = {name.removeprefix(own): arrays[name] for name in arrays.files if name.startswith(own)}
        head = Head.from_arrays(head_arrays) if head_arrays else None
        return Weights(models, arrays["lexicon"], arrays["severity"], word_vectors, head)


_SECOND_LOOK = "second_look"
_FEATURES = f"{NUM_BUCKETS} buckets; {NUM_DIMENSIONS} dimensions; {' '.join(NAMES)}"
"""What the weights belong to: others would give nonsense."""
