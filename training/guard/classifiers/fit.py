"""Logistic regression on hashed n-grams, its calibration, and the threshold for a stated rate of false flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.guard.classifiers.head import Floats
from serving.guard.classifiers.lexical_features import NAMES
from serving.guard.classifiers.linear import LinearModel, read_features
from serving.guard.classifiers.ngrams import NUM_BUCKETS
from serving.guard.classifiers.word_vectors import WordVectors
from training.progress import OnProgress

_AT_ONCE = 200
"""Texts whose n-grams are read together."""

_NAMED_RATE = 3.0
"""Signs are few and dense: they learn this much faster than n-grams."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Features of many texts: n-grams as compressed rows, the others as a matrix."""

    buckets: NDArray[np.uint32]
    values: Floats
    starts: NDArray[np.int64]
    named: Floats

    def margins(
        self, rows: NDArray[np.int64], grams: Floats, named: Floats, bias: float
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Margins of the given rows, and for each of their n-grams its place in `buckets`."""
        places = np.concatenate([np.arange(self.starts[row], self.starts[row + 1]) for row in rows])
        lengths = self.starts[rows + 1] - self.starts[rows]
        products = grams[self.buckets[places]] * self.values[places]
        begins = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        return np.add.reduceat(products, begins) + self.named[rows] @ named + bias, places


def read_rows(texts: Sequence[str], word_vectors: WordVectors, extra: Sequence[Sequence[float]] | None = None) -> Rows:
    """The features of texts; `extra` are further features of each."""
    slices = [slice(begin, begin + _AT_ONCE) for begin in range(0, len(texts), _AT_ONCE)]
    parts = [read_features(texts[part], word_vectors, extra[part] if extra is not None else None) for part in slices]
    buckets, values, lengths = [], [], []
    for part in parts:
        grams = part.grams
        order = np.argsort(grams.owners, kind="stable")
        buckets.append(grams.buckets[order].astype(np.uint32))
        values.append(grams.values[order])
        lengths.append(np.bincount(grams.owners, minlength=len(part.named)))
    starts = np.concatenate(([0], np.cumsum(np.concatenate(lengths))))
    named = np.concatenate([part.named for part in parts])
    return Rows(np.concatenate(buckets), np.concatenate(values), starts, named)


def balanced(labels: NDArray[np.bool_]) -> Floats:
    """What each text counts for, so that both classes weigh the same."""
    share = labels.mean()
    result: Floats = np.where(labels, 0.5 / share, 0.5 / (1 - share)).astype(np.float32)
    return result


def fit(
    rows: Rows,
    labels: NDArray[np.bool_],
    *,
    epochs: int,
    rate: float,
    decay: float,
    seed: int,
    batch: int = 256,
    on_progress: OnProgress | None = None,
) -> tuple[Floats, Floats, float]:
    """Weights of n-grams and other features, and the bias, by Adam on batches in which both classes weigh the same."""
    chance = np.random.default_rng(seed)
    num_named = rows.named.shape[1]
    weights = np.zeros(NUM_BUCKETS + num_named + 1, dtype=np.float32)
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    rates = np.full_like(weights, rate)
    rates[NUM_BUCKETS:] *= _NAMED_RATE
    importance = balanced(labels)
    total = epochs * -(-len(labels) // batch)
    step = 0
    for _ in range(epochs):
        order = chance.permutation(len(labels))
        for begin in range(0, len(order), batch):
            step += 1
            chosen = order[begin : begin + batch]
            grams, named, bias = weights[:NUM_BUCKETS], weights[NUM_BUCKETS:-1], float(weights[-1])
            margins, places = rows.margins(chosen, grams, named, bias)
            slopes = (_sigmoid(margins) - labels[chosen]) * importance[chosen] / len(chosen)
            lengths = rows.starts[chosen + 1] - rows.starts[chosen]
            spread = np.repeat(slopes, lengths) * rows.values[places]
            gradient = np.empty_like(weights)
            gradient[:NUM_BUCKETS] = np.bincount(rows.buckets[places], spread, NUM_BUCKETS)
            gradient[NUM_BUCKETS:-1] = slopes @ rows.named[chosen]
            gradient[-1] = slopes.sum()
            first += 0.1 * (gradient - first)
            second += 0.01 * (gradient * gradient - second)
            moved = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
            cooled = rates * (1 - step / (total + 1))
            weights -= cooled * (moved + decay * weights)
            if on_progress is not None:
                on_progress(step, total)
    return weights[:NUM_BUCKETS], weights[NUM_BUCKETS:-1], float(weights[-1])


def calibrate(attacks: Floats, harmless: Floats) -> tuple[float, float]:
    """Platt's slope and offset, by Newton's method on both classes weighed the same (Platt 1999)."""
    margins = np.concatenate((attacks, harmless)).astype(np.float64)
    # Platt's targets: never quite 0 or 1, so that a separable set has a finite slope.
    targets = np.concatenate(
        (np.full(len(attacks), 1 - 1 / (len(attacks) + 2)), np.full(len(harmless), 1 / (len(harmless) + 2)))
    )
    importance = np.concatenate(
        (np.full(len(attacks), 0.5 / len(attacks)), np.full(len(harmless), 0.5 / len(harmless)))
    )
    design = np.stack((margins, np.ones_like(margins)), axis=1)
    solution = np.array([1.0, 0.0])
    for _ in range(100):
        chances = 1 / (1 + np.exp(-np.clip(design @ solution, -30, 30)))
        gradient = design.T @ (importance * (chances - targets))
        curvature = (design * (importance * chances * (1 - chances))[:, None]).T @ design + 1e-6 * np.eye(2)
        change = np.linalg.solve(curvature, gradient)
        solution -= np.clip(change, -1, 1)
        if np.abs(change).max() < 1e-8:
            break
    return float(solution[0]), float(solution[1])


def threshold_at(margins: Sequence[tuple[str, float]], rate: float, least: int = 50) -> float:
    """The margin at which no harmless source is flagged more often than `rate`; small sources are taken together."""
    by_source: dict[str, list[float]] = {}
    for name, margin in margins:
        by_source.setdefault(name, []).append(margin)
    small = [
        margin for source_margins in by_source.values() if len(source_margins) < least for margin in source_margins
    ]
    groups = [source_margins for source_margins in by_source.values() if len(source_margins) >= least]
    if len(small) >= least or not groups:
        groups.append(small)
    return max(float(np.quantile(source_margins, 1 - rate, method="higher")) for source_margins in groups) + 1e-6


def model_of(
    weights: tuple[Floats, Floats, float], calibration: tuple[float, float] = (1.0, 0.0), threshold: float = 0.5
) -> LinearModel:
    """Put together; a weight too small to matter is dropped, so that the file packs well."""
    grams = weights[0].copy()
    grams[np.abs(grams) < 1e-3] = 0
    assert len(weights[1]) >= len(NAMES)
    return LinearModel(grams.astype(np.float16), weights[1].astype(np.float32), weights[2], *calibration, threshold)


def _sigmoid(values: Floats) -> Floats:
    result: Floats = (1 / (1 + np.exp(-np.clip(values, -30, 30)))).astype(np.float32)
    return result
