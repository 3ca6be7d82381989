"""A mixture of experts against a dense model with equal active weights.

All models are decoders of two blocks, 64 wide. The dense one has an MLP of width 168 in each block. The others have 4
or 8 experts of width 84, and a router sends each token to two of them, so each token uses as many weights, apart from
the router's. Training takes 110 steps of 512 characters of source code on the same batches, with a balance loss of
0.01. The loss is measured on the last tenth of the text. The entropy of the load is 1 if all experts get equally many
tokens, and 0 if one gets all.

Time is the CPU time of all steps. On a CPU and at this size, small matrices and row selection cost more than the
arithmetic they save.

The study does not cover longer training. Each expert learns from only some of the tokens, and the router has to learn
too, so few steps favor the dense model.
"""

from __future__ import annotations

import time
from statistics import fmean

from training.studies.fit import count_weights, decoder, fit_text, heldout_loss, texts
from training.studies.study import Axis, Sample, Study, Trial

HIDDEN = 168


def measure(trial: Trial) -> Sample:
    read = texts(trial)
    losses: dict[str, float] = {}
    table: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for experts in (0, 4, 8):
        name = f"{experts} experts" if experts else "dense"
        model = decoder(trial, read.vocab_size, hidden=HIDDEN // 2 if experts else HIDDEN, experts=experts)
        started = time.thread_time()
        fit_text(model, read.code, trial, steps=trial.pick(110, 2))
        seconds[name] = time.thread_time() - started
        losses[name] = heldout_loss(model, read.code, tokens=trial.pick(16_384, 1024))
        table[f"loss, {name}, nats"] = losses[name]
        table[f"weights in all, {name}, thousands"] = count_weights(model) / 1000
        if experts:
            table[f"entropy of the load, {name}"] = fmean(routing.entropy for routing in model.routings())
            table[f"time, {name} ÷ dense"] = seconds[name] / seconds["dense"]
    line = {1.0: losses["dense"], 4.0: losses["4 experts"], 8.0: losses["8 experts"]}
    return Sample(number=losses["dense"] - losses["8 experts"], table=table, lines={"two of them active": line})


STUDY = Study(
    claim="At equal active weights, eight experts predict text better than one dense MLP.",
    number="loss of the dense model minus loss with eight experts, nats per character",
    holds="above",
    bar=0.0,
    measure=measure,
    x=Axis("experts (1: dense)"),
    y=Axis("loss, nats per character"),
    seeds=3,
)
