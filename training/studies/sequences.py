"""Tasks whose answer can be told from the question: rows of tokens of which the last ones are to be predicted.

Tensors are named with their shapes: B rows, L tokens, N examples, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

SYMBOLS = 16
GO = SYMBOLS
"""Ends the question."""
VOCAB_SIZE = SYMBOLS + 1


@dataclass(frozen=True)
class Sequences:
    """Examples of one task, as the training loop takes them."""

    ids_NL: torch.Tensor
    num_targets: int
    """Of the last tokens of a row: the answer."""

    @property
    def lengths(self) -> Sequence[int]:
        return [self.ids_NL.shape[1] - 1] * len(self.ids_NL)

    def weight(self, indices: Sequence[int]) -> int:
        return len(indices) * self.num_targets

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        logits_BLV, targets_BL = self._predicted(model, self.ids_NL[list(indices)])
        return cross_entropy(logits_BLV.flatten(0, 1).float(), targets_BL.flatten(), reduction="sum")

    def accuracy(self, model: nn.Module) -> float:
        """Part of the answers' tokens that are predicted."""
        with torch.inference_mode():
            logits_BLV, targets_BL = self._predicted(model, self.ids_NL)
        return float((logits_BLV.argmax(-1) == targets_BL).float().mean())

    def _predicted(self, model: nn.Module, ids_BL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits_BLV = model(ids_BL[:, :-1])
        return logits_BLV[:, -self.num_targets :], ids_BL[:, -self.num_targets :]


def copy(count: int, length: int, seed: int) -> Sequences:
    """Say it again."""
    return _with_answer(_symbols(count, length, seed), lambda asked_NL: asked_NL)


def reverse(count: int, length: int, seed: int) -> Sequences:
    """Say it backwards."""
    return _with_answer(_symbols(count, length, seed), lambda asked_NL: asked_NL.flip(1))


def sort(count: int, length: int, seed: int) -> Sequences:
    """Say it in order."""
    return _with_answer(_symbols(count, length, seed), lambda asked_NL: asked_NL.sort(dim=1).values)


def recall(count: int, length: int, seed: int) -> Sequences:
    """Pairs of a key and a value, then one of the keys again: predict its value. The keys of a row differ."""
    generator = torch.Generator().manual_seed(seed)
    pairs = min(length // 2, SYMBOLS)
    keys_NP = torch.rand(count, SYMBOLS, generator=generator).argsort(dim=1)[:, :pairs]
    values_NP = torch.randint(SYMBOLS, (count, pairs), generator=generator)
    asked_N1 = torch.randint(pairs, (count, 1), generator=generator)
    pairs_NL = torch.stack((keys_NP, values_NP), dim=2).flatten(1)
    question = (pairs_NL, torch.full((count, 1), GO), keys_NP.gather(1, asked_N1), values_NP.gather(1, asked_N1))
    return Sequences(torch.cat(question, dim=1), 1)


TASKS: dict[str, Callable[[int, int, int], Sequences]] = {
    "copy": copy,
    "reverse": reverse,
    "sort": sort,
    "recall": recall,
}


def _symbols(count: int, length: int, seed: int) -> torch.Tensor:
    return torch.randint(SYMBOLS, (count, length), generator=torch.Generator().manual_seed(seed))


def _with_answer(asked_NL: torch.Tensor, answer: Callable[[torch.Tensor], torch.Tensor]) -> Sequences:
    go_N1 = torch.full((len(asked_NL), 1), GO)
    return Sequences(torch.cat((asked_NL, go_N1, answer(asked_NL)), dim=1), asked_NL.shape[1])
