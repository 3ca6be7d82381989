"""A mixture of experts beside a dense model at equal active weights.

Both are decoders of two blocks, 64 wide. The dense one has an MLP of 168 in each block; the others have 4 or 8
experts of 84, of which a router sends every token to two: as many weights are multiplied with a token, but for the
router's. 110 steps of 512 characters of source code, the same batches, with a loss for balance of 0.01. The loss is
on the last tenth of the text. Entropy of the load is 1 where the experts get equally many tokens, 0 where one gets
all.

Time is the CPU's of all steps: on a CPU and at this size, small matrices and the picking of rows cost more than the
arithmetic they save.

It does not show longer training: each expert learns from a part of the tokens only, and the router has to learn as
well, so that few steps favour the dense model.
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
    number="loss of the dense model minus loss with eight experts, nats a character",
    holds="above",
    bar=0.0,
    measure=measure,
    x=Axis("experts (1: dense)"),
    y=Axis("loss, nats a character"),
    seeds=3,
)
