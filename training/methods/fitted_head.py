"""A classification head found at once: a regularized linear model of what the frozen model says of the texts.

Logistic regression where a text has one label; a linear support vector machine with squared hinge loss for each label
where it may have several, as that does better by rare ones. The loss is convex, so L-BFGS ends at the one best head, in
seconds where steps of gradient descent take minutes.
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
from torch.nn.functional import cross_entropy

from training.errors import RecipeError
from training.lexical.counts import WeightedTokens

# Of the sum of the squared weights of scaled inputs, beside the summed loss. The largest first: each fit starts from
# the one before.
PENALTIES = (3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
_FOLDS = 5
_MOST_ITERATIONS = 100
# To compare penalties, each of whose fits starts from the one before, less is enough.
_ITERATIONS_TO_COMPARE = 25
# Of the largest element of the gradient, and of a step's, a text: what is left then changes no answer.
_TOLERANCE = 1e-5
# How long the weights of a text's tokens are, when the length of what the model says of it is 1 in the mean.
_LENGTH_OF_TOKENS = 2.0
# A text just beyond the margin of a support vector machine then has a probability of 0.88.
_LOGITS_PER_SCORE = 2.0


@dataclass(frozen=True)
class FittedHead:
    """What was found, as it reads inputs that are not scaled."""

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
    """Of a head of zeros: nats a text, or squared hinges."""
    loss: float
    """Of this one on what it was fitted to, its penalty left out."""
    seconds: float


def head_of(model: nn.Module, labels: int) -> tuple[nn.Module, str]:
    """The module that holds the last linear layer with an output for each label, and the layer's name in it.

    Raises RecipeError where there is none.
    """
    heads = [
        (place, name)
        for place in model.modules()
        for name, child in place.named_children()
        if isinstance(child, nn.Linear) and child.out_features == labels
    ]
    if not heads:
        raise RecipeError("head: fitted needs a linear head, which the model does not have")
    return heads[-1]


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
    width = inputs.shape[1]
    center = inputs.double().mean(0)
    # One spread for all dimensions: those in which texts hardly differ have little to say.
    spread = (inputs.double() - center).square().mean().sqrt().clamp_min(1e-6)
    read = _Inputs((inputs.double() - center) / spread)
    length = _LENGTH_OF_TOKENS * math.sqrt(width)
    seen = torch.empty(0, dtype=torch.long)
    if tokens is not None:
        seen, numbers = tokens.tokens.unique(return_inverse=True)
        read = _Inputs(read.scaled, WeightedTokens(numbers, tokens.weights.double() * length, tokens.sizes), len(seen))
    targets = targets.double() if targets.is_floating_point() else targets
    penalty, left_out, start = _choose_penalty(read, targets, labels, groups)
    weights = _fit(read, targets, penalty, start, _MOST_ITERATIONS)
    logits_per_score = _LOGITS_PER_SCORE if targets.is_floating_point() else 1.0
    weight = weights[:width].T / spread * logits_per_score
    lexical = None
    if tokens is not None:
        lexical = torch.zeros(vocabulary, labels)
        lexical[seen] = (weights[width:-1] * length * logits_per_score).float()
    return FittedHead(
        weight=weight.float(),
        bias=(weights[-1] * logits_per_score - weight @ center).float(),
        lexical=lexical,
        left_out=None if left_out is None else left_out * logits_per_score,
        penalty=penalty,
        first_loss=float(_loss(read, targets, read.zeros(labels))) / len(inputs),
        loss=float(_loss(read, targets, weights)) / len(inputs),
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True)
class _Inputs:
    """What a head reads of texts."""

    scaled: torch.Tensor
    tokens: WeightedTokens | None = None
    different: int = 0
    """How many different tokens there are."""

    def zeros(self, labels: int) -> torch.Tensor:
        """Weights that say nothing: of the inputs, of the tokens, and a last row that is added to all."""
        return torch.zeros(self.scaled.shape[1] + self.different + 1, labels, dtype=torch.float64)

    def scores(self, weights: torch.Tensor) -> torch.Tensor:
        width = self.scaled.shape[1]
        said = self.scaled @ weights[:width] + weights[-1]
        return said if self.tokens is None else said + self.tokens.scores(weights[width:-1])

    def among(self, chosen: torch.Tensor) -> _Inputs:
        tokens = None if self.tokens is None else self.tokens.among(chosen)
        return _Inputs(self.scaled[chosen], tokens, self.different)


def _choose_penalty(
    read: _Inputs, targets: torch.Tensor, labels: int, groups: Sequence[str]
) -> tuple[float, torch.Tensor | None, torch.Tensor]:
    """The one with the least loss on texts of groups that were left out, what was said of these, and where to begin."""
    fold_N = torch.tensor([hashlib.sha256(group.encode()).digest()[0] % _FOLDS for group in groups])
    masks = [fold_N == fold for fold in range(_FOLDS) if (fold_N == fold).any()]
    if len(masks) == 1:
        return PENALTIES[0], None, read.zeros(labels)
    parts = [(out, read.among(out), read.among(~out), targets[~out]) for out in masks]
    weights = [read.zeros(labels)] * len(parts)
    best, best_loss, best_said, start = PENALTIES[0], math.inf, None, read.zeros(labels)
    for penalty in PENALTIES:
        weights = [
            _fit(rest, rest_targets, penalty, before, _ITERATIONS_TO_COMPARE)
            for (*_, rest, rest_targets), before in zip(parts, weights, strict=True)
        ]
        said = torch.empty(len(targets), labels, dtype=torch.float64)
        for (out, left_out, *_), found in zip(parts, weights, strict=True):
            said[out] = left_out.scores(found)
        loss = float(_loss_of(said, targets))
        if loss >= best_loss:
            break  # smaller ones are worse still, and take longest
        best, best_loss, best_said, start = penalty, loss, said, torch.stack(weights).mean(0)
    return best, best_said, start


def _fit(read: _Inputs, targets: torch.Tensor, penalty: float, start: torch.Tensor, iterations: int) -> torch.Tensor:
    """The best weights, the last row of which is added to all."""
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=iterations,
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
    """Summed over the texts."""
    return _loss_of(read.scores(weights), targets)


def _loss_of(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if targets.is_floating_point():
        return (1 - (2 * targets - 1) * scores).clamp_min(0).square().sum()
    return cross_entropy(scores, targets, reduction="sum")
