"""Trains the head of the encoder cascade: from a sentence encoder's states, which texts ask for something harmful.

A text is a bag of views (the whole, its sentences, pairs of them) of which the largest margin counts: which sentence of
a harmful story is harmful, nobody has said. Each step therefore teaches by each text's largest view alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.guard.classifiers.attacks import illicit_margin
from serving.guard.classifiers.encoder import Encoder, EncoderError, digest_of
from serving.guard.classifiers.encoder_cascade import SKIP, VIEWED_CHARS, EncoderCascade, views
from serving.guard.classifiers.head import Floats, Head
from serving.guard.classifiers.linear import LinearModel
from serving.guard.classifiers.word_vectors import WordVectors
from training.errors import SourceError
from training.guard.classifiers.examples import OWN, Text
from training.guard.classifiers.examples import Head as Examples
from training.guard.classifiers.fit import balanced, calibrate, threshold_at
from training.progress import track

NUM_HIDDEN = 128
_EPOCHS = 12
_BATCH = 256
_RATE = 2e-3
_DECAY = 0.1
_KEPT = 0.7
"""Of inputs and hidden units at each step; the rest is hidden from it."""
_SOFTENED = 0.01
_OWN, _EACH = 1500, 400
"""Texts of our own grammar, and of each source besides: to read a text costs some twenty milliseconds."""
_AT_ONCE = 256
"""Texts of about one length that are read together."""
_CALIBRATED = 600
"""Attacks that calibrate; of harmless texts, which set the threshold, all do."""


@dataclass(frozen=True, slots=True)
class Bags:
    """The views of many texts."""

    rows: Floats
    starts: NDArray[np.int64]
    """Where each text's rows begin, and where the last one's end."""


def train_head(
    folder: Path,
    examples: Examples,
    model: LinearModel,
    word_vectors: WordVectors,
    false_flags: float,
    seed: int,
    show: bool = True,
) -> tuple[Head, dict[str, float]]:
    """The head and its recall on calibration texts.

    Raises:
        SourceError: the folder holds no encoder that gateways can run.
    """
    try:
        encoder, digest = Encoder(folder, SKIP), digest_of(folder)
    except EncoderError as error:
        raise SourceError(str(error)) from None
    chance = random.Random(seed)  # noqa: S311 - which texts are drawn is no secret
    attacks, harmless = _drawn(examples.attacks, chance), _drawn(examples.harmless, chance)
    bags = _read(encoder, [text for _, text in (*attacks, *harmless)], show)
    labels = np.array([True] * len(attacks) + [False] * len(harmless))
    raw = replace(fit_head(bags, labels, seed), digest=digest)
    cascade = EncoderCascade(encoder, raw)
    bad = chance.sample(examples.calibration_attacks, min(_CALIBRATED, len(examples.calibration_attacks)))
    good = examples.calibration_harmless
    margins: list[float] = []
    with track(f"second look: {len(bad) + len(good)} texts calibrate", show) as progress:
        for _, text in (*bad, *good):
            margins.append(cascade.margin(text, lambda piece: illicit_margin(model, word_vectors, piece)))
            progress(len(margins), len(bad) + len(good))
    caught, rest = np.array(margins[: len(bad)], dtype=np.float32), np.array(margins[len(bad) :], dtype=np.float32)
    slope, offset = calibrate(caught, rest)
    least = threshold_at([(name, float(margin)) for (name, _), margin in zip(good, rest, strict=True)], false_flags)
    head = replace(raw, slope=slope, offset=offset)
    head = replace(head, threshold=head.probability(least))
    return head, {"second_look_calibration_recall": float((caught >= least).mean())}


def _drawn(texts: Sequence[Text], chance: random.Random) -> list[Text]:
    by_source: dict[str, list[Text]] = {}
    for name, text in texts:
        by_source.setdefault(name.split(",")[0], []).append((name, text))
    most = {name: _OWN if name == OWN else _EACH for name in by_source}
    return [
        text
        for name, source_texts in by_source.items()
        for text in chance.sample(source_texts, min(most[name], len(source_texts)))
    ]


def _read(encoder: Encoder, texts: Sequence[str], show: bool) -> Bags:
    """Views of texts; a text that is there twice is read once."""
    new = sorted(set(texts), key=len)
    known: dict[str, Floats] = {}
    with track(f"second look: {len(new)} texts", show) as progress:
        for begin in range(0, len(new), _AT_ONCE):
            part = new[begin : begin + _AT_ONCE]
            known.update(zip(part, views(encoder, [text[:VIEWED_CHARS] for text in part]), strict=True))
            progress(begin + len(part), len(new))
    bags = [known[text] for text in texts]
    starts = np.concatenate(([0], np.cumsum([len(rows) for rows in bags])))
    return Bags(np.concatenate(bags), starts)


def fit_head(bags: Bags, labels: NDArray[np.bool_], seed: int) -> Head:
    """Adam on batches in which both classes weigh the same; uncalibrated."""
    chance = np.random.default_rng(seed)
    usual, spread = bags.rows.mean(axis=0), bags.rows.std(axis=0) + np.float32(1e-2)
    rows = (bags.rows - usual) / spread
    width = rows.shape[1]
    scales = (width**-0.5, 0.0, NUM_HIDDEN**-0.5, 0.0)
    shapes = ((width, NUM_HIDDEN), (NUM_HIDDEN,), (NUM_HIDDEN,), (1,))
    weights = [
        (scale * chance.uniform(-1, 1, shape)).astype(np.float32) for scale, shape in zip(scales, shapes, strict=True)
    ]
    first, second = [np.zeros_like(part) for part in weights], [np.zeros_like(part) for part in weights]
    importance = balanced(labels)
    targets = np.where(labels, 1 - _SOFTENED, _SOFTENED).astype(np.float32)
    total = _EPOCHS * -(-len(labels) // _BATCH)
    step = 0
    for _ in range(_EPOCHS):
        order = chance.permutation(len(labels))
        for begin in range(0, len(order), _BATCH):
            step += 1
            chosen = order[begin : begin + _BATCH]
            for place, slope in enumerate(_slopes(weights, rows, bags.starts, chosen, targets, importance, chance)):
                first[place] += 0.1 * (slope - first[place])
                second[place] += 0.001 * (slope * slope - second[place])
                moved = (first[place] / (1 - 0.9**step)) / (np.sqrt(second[place] / (1 - 0.999**step)) + 1e-8)
                weights[place] -= np.float32(_RATE * (1 - step / (total + 1))) * (moved + _DECAY * weights[place])
    kernel, kernel_bias, out, bias = weights
    # What scales the rows goes into the kernel: a gateway takes them as the encoder gives them.
    scaled = (kernel / spread[:, None]).astype(np.float16)
    shifted = (kernel_bias - usual @ scaled.astype(np.float32)).astype(np.float32)
    return Head(scaled, shifted, out, float(bias[0]), 1.0, 0.0, 0.5, "")


def _slopes(
    weights: Sequence[Floats],
    rows: Floats,
    starts: NDArray[np.int64],
    chosen: NDArray[np.int64],
    targets: Floats,
    importance: Floats,
    chance: np.random.Generator,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Gradients of one batch of texts."""
    kernel, kernel_bias, out, bias = weights
    places = np.concatenate([np.arange(starts[text], starts[text + 1]) for text in chosen])
    begins = np.concatenate(([0], np.cumsum(starts[chosen + 1] - starts[chosen])))
    seen = rows[places] * _mask(chance, (len(places), rows.shape[1]))
    before = seen @ kernel + kernel_bias
    kept = _mask(chance, before.shape) * (before > 0)
    margins = (before * kept) @ out + bias
    largest = np.array([begin + margins[begin:end].argmax() for begin, end in pairwise(begins)])
    scores = 1 / (1 + np.exp(-np.clip(margins[largest], -30, 30)))
    errors = ((scores - targets[chosen]) * importance[chosen] / len(chosen)).astype(np.float32)
    inner = errors[:, None] * out * kept[largest]
    return (
        seen[largest].T @ inner,
        inner.sum(axis=0),
        (before * kept)[largest].T @ errors,
        errors.sum(keepdims=True),
    )


def _mask(chance: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    result: Floats = (chance.random(shape, dtype=np.float32) < _KEPT).astype(np.float32) / np.float32(_KEPT)
    return result
