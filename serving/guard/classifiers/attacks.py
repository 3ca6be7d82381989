"""The two classifiers of attacks: jailbreaks in what users write, and orders in what is only data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from serving.guard.classifiers.classifier import ILLICIT, INDIRECT, JAILBREAK
from serving.guard.classifiers.linear import LinearModel, Weights, load, read_features
from serving.guard.classifiers.windows import chunks, windows

WEIGHTS = Path(__file__).with_name("weights.npz")
"""Made by `python -m training.classifiers recipes/guard-attacks.yaml`."""

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

    def __init__(self, weights: Callable[[], Weights] = shipped) -> None:
        self._weights = weights

    @property
    def thresholds(self) -> Mapping[str, float]:
        return {category: self._weights().models[category].threshold for category in self.categories}

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        models = self._weights().models
        jailbreak, illicit = models[JAILBREAK], models[ILLICIT]
        return [
            {
                JAILBREAK: jailbreak.probability(attack_margin(jailbreak, text)),
                ILLICIT: illicit.probability(illicit_margin(illicit, text)),
            }
            for text in texts
        ]


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
        model = self._weights().models[INDIRECT]
        return [{INDIRECT: model.probability(indirect_margin(model, text))} for text in texts]


def attack_margin(model: LinearModel, text: str) -> float:
    """The largest margin of the text's chunks."""
    return float(model.margins(read_features(chunks(text, CHUNK_CHARS))).max())


def illicit_margin(model: LinearModel, text: str) -> float:
    """The largest margin of the text's windows: a story around a harmful sentence does not water it down."""
    return float(model.margins(read_features(windows(text, WINDOW_CHARS, MAX_WINDOWS))).max())


def indirect_margin(model: LinearModel, text: str) -> float:
    """The largest margin of the text's windows."""
    found = strange_windows(text)
    return float(model.margins(read_features([window for window, _ in found], [shown for _, shown in found])).max())


STRANGENESS = ("strange", "first", "last", "only")
"""Signs of a window that its surroundings show, in this order."""


def strange_windows(text: str) -> list[tuple[str, tuple[float, ...]]]:
    """Windows of a text, each with how little it has in common with the rest, and where it stands."""
    found = windows(text, WINDOW_CHARS, MAX_WINDOWS)
    if len(found) == 1:
        return [(found[0], (0.0, 0.0, 0.0, 1.0))]
    everywhere = Counter(_WORD.findall(text.lower()))
    shown: list[tuple[str, tuple[float, ...]]] = []
    for window in found:
        here = Counter(_WORD.findall(window.lower()))
        shared = sum(everywhere[word] > count for word, count in here.items())
        strange = 1.0 - shared / len(here) if here else 0.0
        place = text.find(window[:40])
        first = place <= 0
        last = place + len(window) >= len(text.rstrip()) - 2
        shown.append((window, (strange, float(first), float(last), 0.0)))
    return shown
