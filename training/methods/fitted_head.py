"""A classification head found at once: regularized logistic regression on what the frozen model says of the texts.

The loss is convex, so L-BFGS ends at the one best head, in seconds where steps of gradient descent take minutes.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from training.errors import RecipeError
from training.lexical.counts import WeightedTokens

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
    lexical: torch.Tensor | None
    """What each token says for each label, (vocabulary, labels), where tokens are read too."""
    left_out: torch.Tensor | None
    """Logits of every text by a head that was fitted without its group, (texts, labels); none of a single group."""
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


def fit_head(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    labels: int,
    groups: Sequence[str],
    tokens: WeightedTokens | None = None,
    vocabulary: int = 0,
) -> FittedHead:
    """Fit to `inputs`, (texts, width), and `targets`: a number for each text, or a column for each label (floats).

    `tokens`, of a vocabulary of so many, are read beside the inputs.
    """
    started = time.monotonic()
    center, spread = inputs.double().mean(0), inputs.double().std(0, correction=0).clamp_min(1e-6)
    read = _Inputs((inputs.double() - center) / spread)
    seen = torch.empty(0, dtype=torch.long)
    if tokens is not None:
        seen, numbers = tokens.tokens.unique(return_inverse=True)
        # As long as the standardized inputs are in the mean, so that one penalty is for both.
        weights = tokens.weights.double() * math.sqrt(inputs.shape[1])
        read = _Inputs(read.standard, WeightedTokens(numbers, weights, tokens.sizes), len(seen))
    targets = targets.double() if targets.is_floating_point() else targets
    penalty, left_out = _choose_penalty(read, targets, labels, groups)
    found = _fit(read, targets, penalty, read.zeros(labels))
    width = inputs.shape[1]
    weight = (found[:width] / spread[:, None]).T
    lexical = None
    if tokens is not None:
        lexical = torch.zeros(vocabulary, labels)
        lexical[seen] = (found[width:-1] * math.sqrt(width)).float()
    return FittedHead(
        weight=weight.float(),
        bias=(found[-1] - weight @ center).float(),
        lexical=lexical,
        left_out=left_out,
        penalty=penalty,
        first_loss=float(_loss(read, targets, read.zeros(labels))) / len(inputs),
        loss=float(_loss(read, targets, found)) / len(inputs),
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True)
class _Inputs:
    """What a head reads of texts."""

    standard: torch.Tensor
    tokens: WeightedTokens | None = None
    different: int = 0
    """How many different tokens there are."""

    def zeros(self, labels: int) -> torch.Tensor:
        """Weights that say nothing: of the inputs, of the tokens, and a last row that is added to all."""
        return torch.zeros(self.standard.shape[1] + self.different + 1, labels, dtype=torch.float64)

    def logits(self, weights: torch.Tensor) -> torch.Tensor:
        width = self.standard.shape[1]
        said = self.standard @ weights[:width] + weights[-1]
        return said if self.tokens is None else said + self.tokens.scores(weights[width:-1])

    def among(self, chosen: torch.Tensor) -> _Inputs:
        tokens = None if self.tokens is None else self.tokens.among(chosen)
        return _Inputs(self.standard[chosen], tokens, self.different)


def _choose_penalty(
    read: _Inputs, targets: torch.Tensor, labels: int, groups: Sequence[str]
) -> tuple[float, torch.Tensor | None]:
    """The one with the least loss on texts of groups that were left out of the fit, and what was said of these."""
    fold_N = torch.tensor([hashlib.sha256(group.encode()).digest()[0] % _FOLDS for group in groups])
    said = {penalty: torch.zeros(len(targets), labels, dtype=torch.float64) for penalty in PENALTIES}
    for fold in range(_FOLDS):
        out = fold_N == fold
        if out.all():
            return PENALTIES[0], None
        if not out.any():
            continue
        weights = read.zeros(labels)
        for penalty in PENALTIES:
            weights = _fit(read.among(~out), targets[~out], penalty, weights)
            said[penalty][out] = read.among(out).logits(weights)
    best = min(PENALTIES, key=lambda penalty: float(_loss_of(said[penalty], targets)))
    return best, said[best]


def _fit(read: _Inputs, targets: torch.Tensor, penalty: float, start: torch.Tensor) -> torch.Tensor:
    """The best weights, the last row of which is added to all."""
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=_MOST_ITERATIONS,
        history_size=10,
        tolerance_grad=_TOLERANCE * len(targets),
        tolerance_change=_TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        loss = _loss(read, targets, weights) + penalty / 2 * weights[:-1].square().sum()
        loss.backward()
        return loss

    step: Callable[[Any], Any] = optimizer.step
    step(evaluate)
    return weights.detach()


def _loss(read: _Inputs, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Summed over the texts, in nats."""
    return _loss_of(read.logits(weights), targets)


def _loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if targets.is_floating_point():
        return binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return cross_entropy(logits, targets, reduction="sum")
