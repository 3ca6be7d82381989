"""The two classifiers of attacks: jailbreaks in what users write, and orders in what is only data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from serving.guard.classifiers.classifier import ILLICIT, INDIRECT, JAILBREAK
from serving.guard.classifiers.encoder_cascade import EncoderCascade
from serving.guard.classifiers.linear import LinearModel, Weights, load, read_features
from serving.guard.classifiers.ngrams import normal
from serving.guard.classifiers.windows import chunks, windows
from serving.guard.classifiers.word_vectors import WordVectors, directions

WEIGHTS = Path(__file__).with_name("weights.npz")
"""Made by `signet train recipes/guard-attacks.yaml`."""

CHUNK_CHARS = 1500
WINDOW_CHARS = 300
MAX_WINDOWS = 200

_WORD = re.compile(r"[a-z]{4,}")


@cache
def shipped() -> Weights:
    """The weights that come with Signet, read once."""
    return load(WEIGHTS)


class AttackClassifier:
    """Scores what a user says: does it try to talk the model out of its limits, or ask for something harmful?"""

    name = "attack"
    categories = (JAILBREAK, ILLICIT)

    def __init__(self, weights: Callable[[], Weights] = shipped, cascade: EncoderCascade | None = None) -> None:
        self._weights = weights
        self._cascade = cascade

    @property
    def thresholds(self) -> Mapping[str, float]:
        models, cascade = self._weights().models, self._cascade
        illicit = models[ILLICIT].threshold if cascade is None else cascade.head.threshold
        return {JAILBREAK: models[JAILBREAK].threshold, ILLICIT: illicit}

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        weights = self._weights()
        jailbreak = weights.models[JAILBREAK]
        return [
            {
                JAILBREAK: jailbreak.probability(attack_margin(jailbreak, weights.word_vectors, text)),
                ILLICIT: self._illicit(weights, text),
            }
            for text in texts
        ]

    def _illicit(self, weights: Weights, text: str) -> float:
        model = weights.models[ILLICIT]
        if self._cascade is None:
            return model.probability(illicit_margin(model, weights.word_vectors, text))
        margin = self._cascade.margin(text, lambda piece: illicit_margin(model, weights.word_vectors, piece))
        return self._cascade.head.probability(margin)


class IndirectClassifier:
    """Scores data: does a sentence of it give an assistant something to do?"""

    name = "indirect"
    categories = (INDIRECT,)

    def __init__(self, weights: Callable[[], Weights] = shipped) -> None:
        self._weights = weights

    @property
    def thresholds(self) -> Mapping[str, float]:
        return {INDIRECT: self._weights().models[INDIRECT].threshold}

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        weights = self._weights()
        model = weights.models[INDIRECT]
        return [{INDIRECT: model.probability(indirect_margin(model, weights.word_vectors, text))} for text in texts]


def attack_margin(model: LinearModel, word_vectors: WordVectors, text: str) -> float:
    """The largest margin of the text's chunks."""
    return float(model.margins(read_features(chunks(text, CHUNK_CHARS), word_vectors)).max())


def illicit_margin(model: LinearModel, word_vectors: WordVectors, text: str) -> float:
    """The largest margin of the text's windows: a story around a harmful sentence does not water it down."""
    return float(model.margins(read_features(windows(text, WINDOW_CHARS, MAX_WINDOWS), word_vectors)).max())


def indirect_margin(model: LinearModel, word_vectors: WordVectors, text: str) -> float:
    """The largest margin of the text's windows."""
    strange = strange_windows(word_vectors, text)
    features = read_features([window for window, _ in strange], word_vectors, [shown for _, shown in strange])
    return float(model.margins(features).max())


STRANGENESS = ("strange", "first", "last", "only", "apart", "most_apart", "asks_apart")
"""Features of a window that its surroundings show, in this order."""


def strange_windows(word_vectors: WordVectors, text: str) -> list[tuple[str, tuple[float, ...]]]:
    """Windows of a text, each with its place and how little it shares with the rest, in words and in meaning."""
    pieces = windows(text, WINDOW_CHARS, MAX_WINDOWS)
    if len(pieces) == 1:
        return [(pieces[0], (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0))]
    everywhere = Counter(_WORD.findall(text.lower()))
    apart = _apart(word_vectors, text, pieces)
    usual = float(np.median(apart))
    shown: list[tuple[str, tuple[float, ...]]] = []
    for window, far in zip(pieces, apart, strict=True):
        here = Counter(_WORD.findall(window.lower()))
        shared = sum(everywhere[word] > count for word, count in here.items())
        strange = 1.0 - shared / len(here) if here else 0.0
        place = text.find(window[:40])
        first = place <= 0
        last = place + len(window) >= len(text.rstrip()) - 2
        further = far - usual
        shown.append((window, (strange, float(first), float(last), 0.0, far, further, further * ("?" in window))))
    return shown


def _apart(word_vectors: WordVectors, text: str, pieces: Sequence[str]) -> list[float]:
    """For each window how far its meaning is from that of the rest of the text: 0 alike, 1 unrelated."""
    own = word_vectors.sums([normal(window) for window in pieces])
    rest = word_vectors.sums([normal(text)]) - own
    alike = np.sum(directions(own) * directions(rest), axis=1)
    return [float(value) for value in 1.0 - alike]
