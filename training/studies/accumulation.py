"""Micro-batches in place of a whole batch.

The same decoder, seed and 20 batches of 16 rows, each of 8 to 64 characters; only how many rows are computed at once
differs: 16, 4 or 1. Their gradients are added up before each step, every character weighing the same, so that nothing
but the order of additions in floating point is different. Compared are the losses that each step reports, in nats a
character, and the CPU time. The plot has the largest difference up to each step.

Beside it the mistake that libraries have made: each part divided by its own characters, and then the mean of the
parts. A character of a short row then weighs more than one of a long row, and with rows of unequal lengths the losses
differ from the first step on.

It does not show long runs: AdamW divides each gradient by its size, so that where one is nearly zero, its last bits
decide about a whole step, and differences can grow.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from training.methods.trainer import Objective
from training.studies.fit import decoder, fit, texts
from training.studies.study import Axis, Sample, Study, Trial

BATCH = 16
SHORTEST, LONGEST = 8, 64
MISTAKE = "1 at once, averaged by part"


@dataclass(frozen=True)
class UnequalRows:
    """Rows of unequal lengths, right-padded: each weighs by its characters."""

    rows_NL: torch.Tensor
    lengths: Sequence[int]

    def weight(self, indices: Sequence[int]) -> int:
        return sum(self.lengths[index] for index in indices)

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        longest = max(self.lengths[index] for index in indices)
        rows_BL = self.rows_NL[list(indices), : longest + 1].long()
        is_text_BL = torch.arange(longest) < torch.tensor([self.lengths[index] for index in indices])[:, None]
        logits_BLV = model(rows_BL[:, :-1])
        return cross_entropy(logits_BLV[is_text_BL], rows_BL[:, 1:][is_text_BL], reduction="sum")


@dataclass(frozen=True)
class AveragedByPart(UnequalRows):
    """The mistake."""

    def weight(self, indices: Sequence[int]) -> int:
        return len(indices)

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        return super().loss(model, indices) / super().weight(indices) * len(indices)


def measure(trial: Trial) -> Sample:
    read = texts(trial)
    generator = torch.Generator().manual_seed(trial.seed)
    count = trial.pick(2048, 32)
    starts = torch.randint(len(read.code.train.tokens_T) - LONGEST - 1, (count,), generator=generator)
    rows_NL = torch.stack([read.code.train.tokens_T[start : start + LONGEST + 1] for start in starts])
    lengths = torch.randint(SHORTEST, LONGEST + 1, (count,), generator=generator).tolist()
    rows, mistaken = UnequalRows(rows_NL, lengths), AveragedByPart(rows_NL, lengths)
    whole, whole_seconds = _run(trial, read.vocab_size, rows, BATCH)
    apart: dict[str, list[float]] = {}
    ratios: dict[str, float] = {}
    for name, objective, size in (("4 at once", rows, 4), ("1 at once", rows, 1), (MISTAKE, mistaken, 1)):
        losses, seconds = _run(trial, read.vocab_size, objective, size)
        apart[name] = [abs(loss - expected) for loss, expected in zip(losses, whole, strict=True)]
        ratios[name] = seconds / whole_seconds
    table = {f"largest difference of a step, {name}, nats": max(steps) for name, steps in apart.items()}
    table |= {f"CPU time, {name} ÷ 16 at once": ratios[name] for name in ("4 at once", "1 at once")}
    lines: dict[str, dict[float, float]] = {
        name: dict(enumerate(accumulate(steps, max), start=1)) for name, steps in apart.items()
    }
    return Sample(number=max(apart["1 at once"]), table=table, lines=lines)


def _run(trial: Trial, vocab_size: int, objective: Objective, size: int) -> tuple[list[float], float]:
    model = decoder(trial, vocab_size)
    started = time.thread_time()
    losses = fit(model, objective, trial, steps=trial.pick(20, 2), batch_size=BATCH, micro_batch_size=size)
    return losses, time.thread_time() - started


STUDY = Study(
    claim="Computing one row at a time changes no loss of a step by more than a hundred-thousandth of a nat.",
    number="largest difference between a step's losses, rows of unequal lengths one or 16 at once, nats",
    holds="below",
    bar=1e-5,
    measure=measure,
    x=Axis("step"),
    y=Axis("largest difference so far from the losses of 16 at once, nats a character", is_log=True),
)
