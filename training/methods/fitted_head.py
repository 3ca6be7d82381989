"""A classification head found at once: regularized logistic regression on what the frozen model says of the texts.

The loss is convex, so L-BFGS ends at the one best head, in seconds where steps of gradient descent take minutes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from training.errors import RecipeError

# Of the sum of the squared weights of standardized inputs, beside the summed loss. The largest first: each fit starts
# from the one before.
PENALTIES = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
_FOLDS = 5
_MOST_ITERATIONS = 100
# Of the largest element of the gradient, and of a step's, a text: what is left then changes no answer.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class FittedHead:
    """What was found, as it reads inputs that are not standardized."""

    weight: torch.Tensor
    """(labels, width)."""
    bias: torch.Tensor
    penalty: float
    """Chosen by cross-validation over groups."""
    first_loss: float
    """Of a head of zeros: nats a text."""
    loss: float
    """Of this one on what it was fitted to, its penalty left out."""
    seconds: float


def head_of(model: nn.Module, labels: int) -> tuple[nn.Module, str]:
    """The module that holds the last linear layer with an output for each label, and the layer's name in it.

    Raises RecipeError where there is none.
    """
    found = [
        (place, name)
        for place in model.modules()
        for name, child in place.named_children()
        if isinstance(child, nn.Linear) and child.out_features == labels
    ]
    if not found:
        raise RecipeError("head: fitted needs a linear head, which the model does not have")
    return found[-1]


def fit_head(inputs: torch.Tensor, targets: torch.Tensor, labels: int, groups: Sequence[str]) -> FittedHead:
    """Fit to `inputs`, (texts, width), and `targets`: a number for each text, or a column for each label (floats)."""
    started = time.monotonic()
    center, spread = inputs.double().mean(0), inputs.double().std(0, correction=0).clamp_min(1e-6)
    # Standardized, so that one penalty suits all inputs; in fp64, since L-BFGS ends early where losses are rounded.
    standard = (inputs.double() - center) / spread
    targets = targets.double() if targets.is_floating_point() else targets
    penalty = _choose_penalty(standard, targets, labels, groups)
    weights = _fit(standard, targets, penalty, torch.zeros(inputs.shape[1] + 1, labels, dtype=torch.float64))
    weight = (weights[:-1] / spread[:, None]).T
    return FittedHead(
        weight=weight.float(),
        bias=(weights[-1] - weight @ center).float(),
        penalty=penalty,
        first_loss=float(_loss(standard, targets, torch.zeros_like(weights))) / len(inputs),
        loss=float(_loss(standard, targets, weights)) / len(inputs),
        seconds=time.monotonic() - started,
    )


def _choose_penalty(standard: torch.Tensor, targets: torch.Tensor, labels: int, groups: Sequence[str]) -> float:
    """The one with the least loss on texts of groups that were left out of the fit."""
    fold_N = torch.tensor([hashlib.sha256(group.encode()).digest()[0] % _FOLDS for group in groups])
    losses = dict.fromkeys(PENALTIES, 0.0)
    for fold in range(_FOLDS):
        out = fold_N == fold
        # Few groups may leave a fold empty, or fill it alone.
        if not out.any() or out.all():
            continue
        weights = torch.zeros(standard.shape[1] + 1, labels, dtype=torch.float64)
        for penalty in PENALTIES:
            weights = _fit(standard[~out], targets[~out], penalty, weights)
            losses[penalty] += float(_loss(standard[out], targets[out], weights))
    return min(losses, key=losses.__getitem__)


def _fit(standard: torch.Tensor, targets: torch.Tensor, penalty: float, start: torch.Tensor) -> torch.Tensor:
    """The best weights (width + 1, labels), the last row of which is added to all."""
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=_MOST_ITERATIONS,
        history_size=10,
        tolerance_grad=_TOLERANCE * len(standard),
        tolerance_change=_TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        # The bias, in the last row, is not held small: it is the labels' frequency.
        loss = _loss(standard, targets, weights) + penalty / 2 * weights[:-1].square().sum()
        loss.backward()
        return loss

    step: Callable[[Any], Any] = optimizer.step
    step(evaluate)
    return weights.detach()


def _loss(standard: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Summed over the texts, in nats."""
    logits = standard @ weights[:-1] + weights[-1]
    if targets.is_floating_point():
        return binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return cross_entropy(logits, targets, reduction="sum")
