"""Pruning weights by size, and by Wanda.

A decoder of two blocks, 64 wide, learns characters of source code for 250 steps of 512 characters. Then some of the
weights in each row of its linear layers are set to zero, without more training: the smallest ones; those with the
smallest product of weight and input norm (Wanda, Sun et al. 2023), measured on 32 blocks of the training text; or
random ones. The loss is measured on the last tenth of the text.

Scattered zeros save neither memory nor time in the engine, which has no kernels for them (vLLM no longer supports 2:4
sparsity). `method: prune` therefore removes whole layers, channels and heads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from training.studies.fit import BLOCK, decoder, fit_text, heldout_loss, texts
from training.studies.study import Axis, Sample, Study, Trial

Importance = Callable[[str, nn.Linear], torch.Tensor]
"""Of every weight of a layer."""


def measure(trial: Trial) -> Sample:
    read = texts(trial)
    model = decoder(trial, read.vocab_size)
    fit_text(model, read.code, trial, steps=trial.pick(250, 2))
    blocks_BL = read.code.train.tokens_T[: 32 * BLOCK].view(32, BLOCK).long()
    norms = input_norms(model, blocks_BL)
    generator = torch.Generator().manual_seed(trial.seed)
    kinds: dict[str, Importance] = {
        "Wanda": lambda name, layer: layer.weight.abs() * norms[name],
        "by size": lambda name, layer: layer.weight.abs(),
        "at random": lambda name, layer: torch.rand(layer.weight.shape, generator=generator),
    }
    tokens = trial.pick(16_384, 1024)
    whole = heldout_loss(model, read.code, tokens=tokens)
    lines: dict[str, dict[float, float]] = {name: {0.0: whole} for name in kinds}
    for name, importance in kinds.items():
        for part in (0.25, 0.5, 0.75):
            pruned = without(model, part, importance)
            lines[name][part] = heldout_loss(pruned, read.code, tokens=tokens)
    table = {
        f"{name}, {part:.0%} taken out": loss for name, line in lines.items() for part, loss in line.items() if part
    }
    table = {"loss of the whole model, nats": whole, **table}
    return Sample(number=lines["by size"][0.5] - lines["Wanda"][0.5], table=table, lines=lines)


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """All but the output layer, which is the embedding as well."""
    return {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear) and name != "head"}


def input_norms(model: nn.Module, blocks_BL: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of each layer's inputs, channel by channel, over all positions of some text."""
    norms: dict[str, torch.Tensor] = {}

    def listen(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            norms[name] = inputs[0].flatten(0, -2).norm(dim=0)

        return hook

    hooks = [layer.register_forward_pre_hook(listen(name)) for name, layer in linear_layers(model).items()]
    with torch.inference_mode():
        model(blocks_BL)
    for hook in hooks:
        hook.remove()
    return norms


def without(model: nn.Module, part: float, importance: Importance) -> nn.Module:
    """The model with the least important part of each row's weights zero."""
    pruned = copy.deepcopy(model)
    with torch.no_grad():
        for name, layer in linear_layers(pruned).items():
            gone = importance(name, layer).argsort(dim=1)[:, : round(part * layer.in_features)]
            layer.weight.scatter_(1, gone, 0.0)
    return pruned


STUDY = Study(
    claim="With half of the weights removed, Wanda gives a lower loss than removing the smallest weights.",
    number="loss by size minus loss by Wanda, half of the weights removed, nats per character",
    holds="above",
    bar=0.0,
    measure=measure,
    x=Axis("part of the weights taken out"),
    y=Axis("loss, nats per character"),
)
