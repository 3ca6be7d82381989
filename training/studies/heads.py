"""Attention heads on sequence tasks.

A decoder of two blocks, 64 wide, learns one of four tasks per model: copying 8 symbols, reversing them, sorting them,
and recalling which value followed a key (for Arora et al. 2023, the characteristic task of attention). Only the number
of heads differs. All models have the same number of weights, because more heads are narrower. Each takes 60 steps of
16 rows. Accuracy is the fraction of answer symbols predicted correctly on 256 held-out rows; guessing among 16 symbols
scores 0.06.

The study does not show what the heads attend to, nor whether longer training keeps this order: after so few steps, no
task is fully learned.
"""

from __future__ import annotations

from statistics import fmean

from training.studies.fit import decoder, fit
from training.studies.sequences import TASKS, VOCAB_SIZE, Sequences
from training.studies.study import Axis, Sample, Study, Trial

LENGTH = 8
HEADS = (1, 4)


def measure(trial: Trial) -> Sample:
    lines = {task: {float(heads): _accuracy(task, heads, trial) for heads in HEADS} for task in TASKS}
    means = {heads: fmean(line[heads] for line in lines.values()) for heads in HEADS}
    table = {f"{_heads(heads)}, {task}": lines[task][heads] for task in TASKS for heads in HEADS}
    table |= {f"{_heads(heads)}, mean of the tasks": mean for heads, mean in means.items()}
    return Sample(number=means[4] - means[1], table=table, lines=lines)


def _heads(number: int) -> str:
    return "1 head" if number == 1 else f"{number} heads"


def _accuracy(task: str, heads: int, trial: Trial) -> float:
    make = TASKS[task]
    learned, asked = (make(trial.pick(8192, 32), LENGTH, seed) for seed in (2 * trial.seed, 2 * trial.seed + 1))
    model = decoder(trial, VOCAB_SIZE, heads=heads)
    fit(model, learned, trial, steps=trial.pick(60, 2), batch_size=trial.pick(16, 8))
    return Sequences(asked.ids_NL[:256], asked.num_targets).accuracy(model)


STUDY = Study(
    claim="At equal width and in as many steps, four heads learn sequence tasks better than one.",
    number="accuracy with four heads minus accuracy with one, mean of four tasks after 60 steps",
    holds="above",
    bar=0.0,
    measure=measure,
    x=Axis("heads", is_log=True),
    y=Axis("accuracy"),
    seeds=3,
)
