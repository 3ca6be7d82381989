"""Gradient clipping at a high learning rate.

A decoder of two blocks, 64 wide, learns characters of source code for 100 steps of 512 characters at three peak
learning rates, with gradients clipped to a norm of 1 (the default of recipes) and without clipping. AdamW divides each
gradient by its root mean square, so uniformly larger gradients change nothing. Clipping matters when the gradients of
single steps are much larger than earlier ones. The loss is measured on the last tenth of the text.

The study does not cover rare events in long runs, the main purpose of clipping.
"""

from __future__ import annotations

import math

from training.errors import RecipeError
from training.studies.fit import decoder, fit_text, heldout_loss, texts
from training.studies.study import Axis, Sample, Study, Trial

RATES = (0.003, 0.01, 0.03)
NORMS = {"clipped to 1": 1.0, "not clipped": 1e9}


def measure(trial: Trial) -> Sample:
    read = texts(trial)
    lines: dict[str, dict[float, float]] = {name: {} for name in NORMS}
    for name, norm in NORMS.items():
        for rate in RATES:
            model = decoder(trial, read.vocab_size, layers=trial.pick(2, 1))
            steps = trial.pick(100, 2)
            try:
                fit_text(model, read.code, trial, steps=steps, learning_rate=rate, clip_norm=norm)
                lines[name][rate] = heldout_loss(model, read.code, tokens=trial.pick(16_384, 1024))
            except RecipeError:  # no longer a number: as bad as knowing nothing
                lines[name][rate] = math.log(read.vocab_size)
    table = {f"{name}, learning rate {rate:g}": loss for name, line in lines.items() for rate, loss in line.items()}
    highest = RATES[-1]
    return Sample(number=lines["not clipped"][highest] - lines["clipped to 1"][highest], table=table, lines=lines)


STUDY = Study(
    claim="At a learning rate ten times too high, clipping gradients gives a lower loss.",
    number="loss without clipping minus loss with it, learning rate 0.03, nats per character",
    holds="above",
    bar=0.0,
    measure=measure,
    x=Axis("peak learning rate", is_log=True),
    y=Axis("loss, nats per character"),
)
