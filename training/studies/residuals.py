"""Residual connections, with and without, by depth.

Decoders of one to eight blocks, 64 wide, learn characters of source code for 50 steps of 512 characters. In half of
them, each part of a block replaces the residual stream instead of adding to it (He et al. 2016 explain why that hurts).
Norms, learning rate and batches are the same. The loss is measured on the last tenth of the text.

The study does not show that deep models without residuals cannot be trained: other initializations and norms do better
than these.
"""

from __future__ import annotations

from training.studies.fit import decoder, fit_text, heldout_loss, texts
from training.studies.study import Axis, Sample, Study, Trial

NAMES = {True: "with residuals", False: "without"}


def measure(trial: Trial) -> Sample:
    read = texts(trial)
    lines: dict[str, dict[float, float]] = {name: {} for name in NAMES.values()}
    for residual, name in NAMES.items():
        for depth in trial.pick((1, 2, 8), (1, 2)):
            model = decoder(trial, read.vocab_size, layers=depth, residual=residual)
            fit_text(model, read.code, trial, steps=trial.pick(50, 2))
            lines[name][depth] = heldout_loss(model, read.code, tokens=trial.pick(8192, 1024))
    deepest = max(lines["without"])
    table = {
        f"{name}, {depth:g} block{'s' if depth > 1 else ''}": loss
        for name, line in lines.items()
        for depth, loss in line.items()
    }
    return Sample(number=lines["without"][deepest] - lines["without"][2], table=table, lines=lines)


STUDY = Study(
    claim="Without residual connections, eight blocks predict text worse than two.",
    number="loss of eight blocks minus loss of two, both without residuals, nats per character",
    holds="above",
    bar=0.0,
    measure=measure,
    x=Axis("blocks", is_log=True),
    y=Axis("loss, nats per character"),
    seeds=3,
)
