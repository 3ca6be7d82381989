"""LayerNorm against RMSNorm.

RMSNorm (Zhang and Sennrich 2019) divides by the root mean square without subtracting the mean: one sum less, and no
bias. A decoder of two blocks, 64 wide, learns characters of source code with either norm from the same seed and
batches, for 200 steps of 512 characters. The loss for the verdict is measured on the held-out last tenth of the text;
the plot shows the training loss.

Times are CPU times of one norm, forward and backward, over 1,024 positions 64 wide: the fastest of 20 rounds. On a CPU,
PyTorch has one kernel for LayerNorm but composes RMSNorm of several, so less arithmetic does not mean less time there.
"""

from __future__ import annotations

import time
from statistics import fmean

import torch
from torch import nn

from training.model.config import Norm
from training.studies.fit import decoder, fit_text, heldout_loss, texts
from training.studies.study import Axis, Sample, Study, Trial

NORMS: dict[Norm, str] = {"layer": "LayerNorm", "rms": "RMSNorm"}


def measure(trial: Trial) -> Sample:
    read = texts(trial)
    losses: dict[str, float] = {}
    lines: dict[str, dict[float, float]] = {}
    per_point = trial.pick(25, 1)
    for norm, name in NORMS.items():
        model = decoder(trial, read.vocab_size, norm=norm)
        steps = fit_text(model, read.code, trial, steps=trial.pick(200, 5))
        ends = range(per_point, len(steps) + 1, per_point)
        lines[name] = {end: fmean(steps[end - per_point : end]) for end in ends}
        losses[norm] = heldout_loss(model, read.code, tokens=trial.pick(32_768, 1024))
    times = [_microseconds(kind, trial.pick(20, 1)) for kind in (nn.LayerNorm, nn.RMSNorm)]
    table = {"loss with LayerNorm, nats": losses["layer"], "loss with RMSNorm, nats": losses["rms"]}
    return Sample(
        number=losses["rms"] / losses["layer"],
        table={**table, "time of RMSNorm ÷ LayerNorm": times[1] / times[0]},
        lines=lines,
    )


def _microseconds(kind: type[nn.Module], rounds: int) -> float:
    norm = kind(64)
    x_LD = torch.randn(1024, 64, requires_grad=True)
    times = []
    for _ in range(rounds):
        started = time.thread_time()
        norm(x_LD).sum().backward()
        times.append(time.thread_time() - started)
    return min(times) * 1e6


STUDY = Study(
    claim="RMSNorm predicts text no worse than LayerNorm, within one percent of the loss.",
    number="loss with RMSNorm ÷ loss with LayerNorm",
    holds="below",
    bar=1.01,
    measure=measure,
    x=Axis("step"),
    y=Axis("loss of the 25 steps before, nats per character"),
)
