"""Micro-batches instead of whole batches.

The same decoder takes the same 20 batches of 16 rows (8 to 64 characters each) from the same seed, and computes 16, 4
or 1 rows at once. Gradients are accumulated before each step, and every character has the same weight, so only the
order of floating-point additions differs. The study compares the losses of each step, in nats per character, and the
CPU time. The plot shows the largest difference up to each step.

It also shows a mistake that libraries have made: to divide each part by its own number of characters and then average
the parts. Characters in short rows then weigh more than those in long rows, and the losses differ from the first step.

The study does not cover long runs. AdamW normalizes each gradient by its size, so where a gradient is nearly zero, its
last bits determine a whole step, and differences can grow.
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
    claim="Computing one row at a time changes the loss of no step by more than a hundred-thousandth of a nat.",
    number="largest difference between the losses of a step with 1 and with 16 rows at once, nats",
    holds="below",
    bar=1e-5,
    measure=measure,
    x=Axis("step"),
    y=Axis("largest difference so far from the losses of 16 at once, nats per character", is_log=True),
)
