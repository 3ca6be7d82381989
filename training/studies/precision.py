"""Training in fp32, bf16 and fp16.

The same decoder of two blocks, 64 wide, takes 120 steps of 128 characters of source code from the same seed on the same
batches. Weights and optimizer state stay fp32. Matrix products use the named format (`precision:` of every recipe), and
fp16 scales the loss (Micikevicius et al. 2018). The loss is measured on the last tenth of the text, in fp32. The study
also rounds the weights of the fp32 model afterwards: to bf16, the format of checkpoints, and to 8 bits with a scale for
each row. Figures are changes from the loss of fp32, in percent.

The study does not cover speed: CPUs are slower in 16 bits than in 32, and GPUs several times faster. Small models have
few of the outliers that make large models hard to round.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from training.recipes.sections import Precision
from training.studies.fit import decoder, fit_text, heldout_loss, texts
from training.studies.study import Axis, Sample, Study, Trial

TYPES: tuple[Precision, ...] = ("fp32", "bf16", "fp16")


def measure(trial: Trial) -> Sample:
    read = texts(trial)
    tokens = trial.pick(16_384, 1024)
    losses = {}
    models = {}
    for precision in TYPES:
        models[precision] = decoder(trial, read.vocab_size)
        fit_text(models[precision], read.code, trial, steps=trial.pick(120, 2), batch_size=2, precision=precision)
        losses[precision] = heldout_loss(models[precision], read.code, tokens=tokens)
    changed = {f"trained in {precision}": losses[precision] for precision in TYPES[1:]}
    for name, rounding in (("bf16", _to_bf16), ("int8", _to_int8)):
        rounded = _rounded(models["fp32"], rounding)
        changed[f"trained in fp32, rounded to {name}"] = heldout_loss(rounded, read.code, tokens=tokens)
    table = {name: 100 * (loss / losses["fp32"] - 1) for name, loss in changed.items()}
    return Sample(number=losses["bf16"] / losses["fp32"], table=table)


def _rounded(model: nn.Module, rounding: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(rounding(parameter))
    return rounded


def _to_bf16(weight: torch.Tensor) -> torch.Tensor:
    return weight.to(torch.bfloat16).float()


def _to_int8(weight: torch.Tensor) -> torch.Tensor:
    """Symmetric, a scale for each row; norms stay."""
    if weight.dim() < 2:
        return weight
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round() * scale


STUDY = Study(
    claim="Training in bf16 costs less than one percent of the loss.",
    number="loss trained in bf16 ÷ loss trained in fp32",
    holds="below",
    bar=1.01,
    measure=measure,
    y=Axis("change of the loss from fp32's, percent"),
)
