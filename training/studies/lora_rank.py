"""The rank of the change in fine-tuning.

A decoder of two blocks, 64 wide, learns characters of source code for 200 steps of 512, and then English prose
(Python's manual) for as many, with all weights. The change of each linear layer in the second training is truncated to
a rank by its singular values, as in `method: shrink`, and added to the first model; all other weights are those after
the second training. A gain of 1 is all that fine-tuning gained on held-out prose, and 0 is none. Energy is the
fraction of the squared singular values that the rank keeps. Hu et al. 2021 claim that fine-tuning makes changes of a
rank far below the layer's width.

Embeddings and norms keep what they learned and count on neither side: at rank 0, the gain of the linear layers is 0.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from training.methods.shrink import low_rank
from training.studies.fit import decoder, fit_text, heldout_loss, texts
from training.studies.study import Axis, Sample, Study, Trial

RANKS = (1, 2, 4, 8, 16, 32, 64)


def measure(trial: Trial) -> Sample:
    read = texts(trial)
    steps, tokens = trial.pick(200, 2), trial.pick(16_384, 1024)
    model = decoder(trial, read.vocab_size)
    fit_text(model, read.code, trial, steps=steps)
    before = _linear(copy.deepcopy(model))
    fit_text(model, read.prose, trial, steps=steps)
    deltas = {name: layer.weight.detach() - before[name].weight.detach() for name, layer in _linear(model).items()}
    after = heldout_loss(model, read.prose, tokens=tokens)
    losses, kept = {}, {}
    for rank in (0, *RANKS):
        kept[rank] = _cut(model, before, deltas, rank)
        losses[rank] = heldout_loss(model, read.prose, tokens=tokens)
    gains = {float(rank): (losses[0] - losses[rank]) / (losses[0] - after) for rank in RANKS}
    table = {"loss without the layers' changes, nats": losses[0], "loss with all of them, nats": after}
    table |= {f"gain kept at rank {rank:g}": gain for rank, gain in gains.items()}
    energy = {float(rank): kept[rank] for rank in RANKS}
    return Sample(number=gains[16.0], table=table, lines={"gain of fine-tuning": gains, "energy": energy})


def _linear(model: nn.Module) -> dict[str, nn.Linear]:
    """The layers that LoRA would be put on: all but the output."""
    return {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear) and name != "head"}


def _cut(model: nn.Module, before: dict[str, nn.Linear], deltas: dict[str, torch.Tensor], rank: int) -> float:
    """Give the model what each layer was, and of what it learned so many ranks; returns the energy kept."""
    energy, total = 0.0, 0.0
    for name, layer in _linear(model).items():
        a, b, kept = low_rank(deltas[name], rank)
        layer.weight.data = before[name].weight.detach() + b @ a
        energy, total = energy + kept, total + float(deltas[name].square().sum())
    return energy / total


STUDY = Study(
    claim="A quarter of the full rank keeps nine tenths of the gain from fine-tuning linear layers.",
    number="fraction of the gain that rank 16 of 64 keeps",
    holds="above",
    bar=0.9,
    measure=measure,
    x=Axis("rank", is_log=True),
    y=Axis("share kept"),
)
