"""Fits the tagger's tables by logistic regression, and rounds them to small whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch
from torch.nn import functional

from serving.guard.ner.model import NUM_JOINT_ROWS, NUM_ROWS, TAGS, WIDTH
from serving.guard.ner.words import SIDE, joint_rows, rows, split
from serving.guard.text.folding import fold
from training.guard.ner.texts import NONE, Piece
from training.progress import OnProgress

_BATCH = 8192
_MAX_TRAITS = 13
_LEXICAL_DROPPED = 0.2
"""How often a word is not seen itself, only its shape, beginning and end: for names that were never drawn."""
_JOINT_DROPPED = 0.5
"""How often words together are not seen: there are few sentences, and these would be learnt by heart."""
_LARGEST = 4.0
"""Weights are cut here before rounding."""


@dataclass(slots=True)
class Corpus:
    """Words of all texts in a row, `SIDE` empty ones between texts, with what is seen of each and its tag."""

    kinds: list[int] = field(default_factory=list)
    joint: list[list[int]] = field(default_factory=list)
    tags: list[int] = field(default_factory=list)
    vocabulary: dict[str, int] = field(default_factory=lambda: {"": 0})
    num_texts: int = 0

    def add(self, pieces: Sequence[Piece]) -> None:
        text = fold("".join(piece.text for piece in pieces))
        ends = list(accumulate(len(piece.text) for piece in pieces))
        words = split(text)
        around = ["", "", *(word.text for word in words), "", ""]
        piece = 0
        for number, word in enumerate(words):
            while ends[piece] <= word.start:
                piece += 1
            self._append(word.text, joint_rows(tuple(around[number : number + 5]), NUM_JOINT_ROWS), pieces[piece].tag)  # type: ignore[arg-type]
        for _ in range(SIDE):
            self._append("", [NUM_JOINT_ROWS] * len(self.joint[-1]), NONE)
        self.num_texts += 1

    def _append(self, word: str, joint: list[int], tag: int) -> None:
        self.kinds.append(self.vocabulary.setdefault(word, len(self.vocabulary)))
        self.joint.append(joint)
        self.tags.append(tag)


def corpus_of(texts: Iterable[Sequence[Piece]]) -> Corpus:
    corpus = Corpus()
    for pieces in texts:
        if any(piece.text.strip() for piece in pieces):
            corpus.add(pieces)
    return corpus


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a model's file holds."""

    table: bytes
    joint: bytes
    scale: float
    loss: float


def fit(corpus: Corpus, epochs: int, learning_rate: float, seed: int, on_progress: OnProgress | None = None) -> Fitted:
    """Fit over all words, each seen `epochs` times."""
    torch.manual_seed(seed)
    traits = _traits(corpus)
    kinds, joint = torch.tensor(corpus.kinds), torch.tensor(corpus.joint)
    tags = torch.tensor(corpus.tags)
    table = torch.zeros(NUM_ROWS + 1, WIDTH, requires_grad=True)
    pairs = torch.zeros(NUM_JOINT_ROWS + 1, len(TAGS), requires_grad=True)
    optimizer = torch.optim.Adam([table, pairs], lr=learning_rate)
    starts = list(range(0, len(kinds), _BATCH))
    num_steps = epochs * len(starts)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / num_steps)
    total = 0.0
    with _one_thread():
        for epoch in range(epochs):
            total = 0.0
            for number, place in enumerate(torch.randperm(len(starts)).tolist()):
                here = slice(starts[place], starts[place] + _BATCH)
                loss = _loss(table, pairs, traits[kinds[here]], joint[here], tags[here])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item()
                if on_progress is not None:
                    on_progress(epoch * len(starts) + number + 1, num_steps)
    scale = _LARGEST / 127
    return Fitted(_rounded(table, scale), _rounded(pairs, scale), scale, total / len(starts))


def _traits(corpus: Corpus) -> torch.Tensor:
    """The rows of each word of the vocabulary."""
    traits = torch.full((len(corpus.vocabulary), _MAX_TRAITS), NUM_ROWS)
    for word, kind in corpus.vocabulary.items():
        word_rows = rows(word, NUM_ROWS) if word else []
        traits[kind, : len(word_rows)] = torch.tensor(word_rows, dtype=torch.long)
    return traits


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, so that weights are the same however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _loss(
    table: torch.Tensor, pairs: torch.Tensor, traits: torch.Tensor, joint: torch.Tensor, tags: torch.Tensor
) -> torch.Tensor:
    seen = torch.ones(traits.shape)
    seen[:, :2] = (torch.rand(len(traits), 1) > _LEXICAL_DROPPED).float()
    added = functional.embedding_bag(traits, table, mode="sum", per_sample_weights=seen, padding_idx=NUM_ROWS).view(
        len(traits), -1, len(TAGS)
    )
    together = (torch.rand(joint.shape) >= _JOINT_DROPPED).float()
    scores = functional.embedding_bag(joint, pairs, mode="sum", per_sample_weights=together, padding_idx=NUM_JOINT_ROWS)
    for offset in range(-SIDE, SIDE + 1):
        # The word at `offset` adds what it says about a word that lies on its opposite side.
        column = added[:, SIDE - offset]
        scores = scores + functional.pad(
            column[max(0, offset) : len(column) + min(0, offset)], (0, 0, max(0, -offset), max(0, offset))
        )
    scores = torch.cat([scores, torch.zeros(len(scores), 1)], dim=1)
    return functional.cross_entropy(scores, tags) + 1e-6 * (added**2).sum(dim=(1, 2)).mean()


def _rounded(weights: torch.Tensor, scale: float) -> bytes:
    whole = torch.round(weights.detach()[:-1].clamp(-_LARGEST, _LARGEST) / scale)
    rounded: bytes = whole.numpy().astype(np.int8).tobytes()
    return rounded
