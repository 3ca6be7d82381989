"""LoRA against bottleneck adapters with equal parameters.

A decoder of two blocks, 64 wide, learns characters of source code for 80 steps of 512. Then it is frozen, and an
adapter learns English prose (Python's manual) for 40 steps: LoRA on all linear layers (Hu et al. 2021), or a bottleneck
after attention and MLP of each block (Houlsby et al. 2019: down, GELU, up, added). The rank of LoRA is chosen to match
the bottleneck's number of weights within five percent. Both start as no change, and each uses the better of two
learning rates by training loss. For comparison, all weights are trained, or none.

This is one model size and one pair of texts. LoRA can be merged into the weights and then costs nothing when served; a
bottleneck cannot.
"""

from __future__ import annotations

import copy
from statistics import fmean

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.nn.functional import gelu

from training.model.decoder import Decoder
from training.studies.fit import Text, count_weights, decoder, fit_text, heldout_loss, texts
from training.studies.study import Axis, Sample, Study, Trial

WIDTH = 64
LINEAR = ["query", "key", "value", "output", "gate", "up", "down"]
RATES = (3e-3, 1e-2)
BUDGETS = (4, 18)
"""Widths of the bottleneck: with as many weights as LoRA of rank 1 and 4, within five percent."""


class Bottleneck(nn.Module):
    """What a part of a block says, and a small change of it."""

    def __init__(self, part: nn.Module, width: int) -> None:
        super().__init__()
        self.part = part
        self.down, self.up = nn.Linear(WIDTH, width), nn.Linear(width, WIDTH)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, *inputs: object) -> torch.Tensor:
        said_BLD = self.part(*inputs)
        return said_BLD + self.up(gelu(self.down(said_BLD)))


def measure(trial: Trial) -> Sample:
    read = texts(trial)
    base = decoder(trial, read.vocab_size, width=WIDTH)
    fit_text(base, read.code, trial, steps=trial.pick(80, 2))
    tokens = trial.pick(8192, 1024)
    lines: dict[str, dict[float, float]] = {"LoRA": {}, "bottleneck": {}}
    table = {"loss of the base, nats": heldout_loss(base, read.prose, tokens=tokens)}
    for width in trial.pick(BUDGETS, BUDGETS[:1]):
        bottleneck = with_bottlenecks(base, width)
        budget = count_weights(bottleneck, only_trained=True)
        lora = with_lora(base, max(1, round(budget / count_weights(with_lora(base, 1), only_trained=True))))
        for name, model in (("LoRA", lora), ("bottleneck", bottleneck)):
            tuned = _best(model, read.prose, trial)
            lines[name][budget] = heldout_loss(tuned, read.prose, tokens=tokens)
            table[f"{name}, {count_weights(model, only_trained=True):,} weights"] = lines[name][budget]
    table["all weights trained"] = heldout_loss(
        _best(copy.deepcopy(base), read.prose, trial), read.prose, tokens=tokens
    )
    largest = max(lines["LoRA"])
    return Sample(number=lines["bottleneck"][largest] - lines["LoRA"][largest], table=table, lines=lines)


def with_bottlenecks(base: Decoder, width: int) -> Decoder:
    model = copy.deepcopy(base)
    model.requires_grad_(False)
    for block in model.blocks:
        block.attention, block.mlp = Bottleneck(block.attention, width), Bottleneck(block.mlp, width)
    return model


def with_lora(base: Decoder, rank: int) -> Decoder:
    """peft's, put into the model in place."""
    model = copy.deepcopy(base)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LINEAR), model)
    return model


def _best(model: Decoder, text: Text, trial: Trial) -> Decoder:
    """Trained with the learning rate whose last losses are the least."""
    tried = []
    for rate in trial.pick(RATES, RATES[:1]):
        tuned = copy.deepcopy(model)
        losses = fit_text(tuned, text, trial, steps=trial.pick(40, 2), learning_rate=rate)
        tried.append((fmean(losses[-10:]), tuned))
    return min(tried, key=lambda each: each[0])[1]


STUDY = Study(
    claim="At equal parameters, LoRA learns a new kind of text better than bottleneck adapters.",
    number="loss with bottlenecks minus loss with LoRA, the larger budget, nats per character",
    holds="above",
    bar=0.0,
    measure=measure,
    x=Axis("weights trained", is_log=True),
    y=Axis("loss, nats per character"),
    seeds=3,
)
