"""Toxicity: a trained model together with a lexicon, whose words are kept as hashes and read by nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from serving.guard.classifiers.attacks import CHUNK_CHARS, shipped
from serving.guard.classifiers.classifier import HATE, TOXICITY
from serving.guard.classifiers.linear import Features, Weights, read_features
from serving.guard.classifiers.ngrams import normal, word_hashes
from serving.guard.classifiers.windows import chunks

TOXIC_CHARS = CHUNK_CHARS // 5
"""Characters looked at together: about what the tweets have that the model learned from."""


class ToxicityClassifier:
    """Scores insults, hate and obscenity; English."""

    name = "toxicity"
    categories = (TOXICITY, HATE)

    def __init__(self, weights: Callable[[], Weights] = shipped) -> None:
        self._weights = weights

    @property
    def thresholds(self) -> Mapping[str, float]:
        return {category: self._weights().models[category].threshold for category in self.categories}

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        return [self._score(text) for text in texts]

    def _score(self, text: str) -> dict[str, float]:
        weights = self._weights()
        features = toxic_features(weights, text)
        models = {category: weights.models[category] for category in self.categories}
        return {category: model.probability(float(model.margins(features).max())) for category, model in models.items()}


def toxic_features(weights: Weights, text: str) -> Features:
    """What the models see of the text's pieces."""
    pieces = chunks(text, TOXIC_CHARS)
    return read_features(pieces, weights.word_vectors, [lexicon_signs(weights, piece) for piece in pieces])


def lexicon_signs(weights: Weights, text: str) -> tuple[float, ...]:
    """Of the listed words in a text: how offensive the worst is, how many there are, their share."""
    words = word_hashes(normal(text))
    if not len(words) or not len(weights.lexicon):
        return (0.0, 0.0, 0.0)
    places = np.minimum(np.searchsorted(weights.lexicon, words), len(weights.lexicon) - 1)
    listed = weights.lexicon[places] == words
    if not listed.any():
        return (0.0, 0.0, 0.0)
    worst = float(weights.severity[places[listed]].max())
    return (worst, min(float(listed.sum()) / 3, 1.0), float(listed.mean()))
