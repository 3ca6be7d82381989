"""Perplexity on chats: how well a model predicts what the assistant says.

exp of the mean negative log-likelihood (natural log) over all assistant tokens of all chats, each answer's
closing token included; every token weighs the same, so long answers weigh more. Prompts are read, not
scored. Comparable only between models with the same tokenizer and chat template.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from training.data import IGNORED, Example
from training.errors import DivergedError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits of a whole batch are held at once: 8 x 512 tokens x 50,000 entries x 4 bytes = 0.8 GB.
BATCH_SIZE = 8


@dataclass(frozen=True)
class Perplexity:
    """A measurement: its value, and what it was taken over."""

    value: float
    tokens: int
    chats: int


@dataclass(frozen=True)
class Batch:
    """Right-padded examples; every tensor is (examples, longest example)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


def collate(examples: Sequence[Example], pad_token_id: int, device: torch.device | str = "cpu") -> Batch:
    """Pad to the longest of these examples; padding is neither attended to nor labelled."""
    width = max(len(example.input_ids) for example in examples)

    def padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
        return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], device=device)

    return Batch(
        input_ids=padded([example.input_ids for example in examples], pad_token_id),
        attention_mask=padded([[1] * len(example.input_ids) for example in examples], 0),
        labels=padded([example.labels for example in examples], IGNORED),
    )


def summed_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Negative log-likelihood of the labelled tokens, summed, in nats; taken in fp32."""
    return cross_entropy(target_logits(model, batch), targets(batch), reduction="sum")


def target_logits(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Of each labelled token, (tokens, vocabulary), in fp32."""
    logits_BLV = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    # Only labelled positions become fp32: prompts and padding are most of a batch.
    logits_NV: torch.Tensor = logits_BLV[:, :-1][batch.labels[:, 1:] != IGNORED].float()
    return logits_NV


def targets(batch: Batch) -> torch.Tensor:
    """The labelled tokens, in the order of `target_logits`."""
    targets_BL = batch.labels[:, 1:]
    return targets_BL[targets_BL != IGNORED]


def log_likelihoods(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Of each example: the log-likelihood of its labelled tokens, summed, in nats; taken in fp32."""
    logits_BLV = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    targets_BL = batch.labels[:, 1:]
    is_target_BL = targets_BL != IGNORED
    # Logits of a position are about the next token, so labels are read one to the right.
    losses = cross_entropy(logits_BLV[:, :-1][is_target_BL].float(), targets_BL[is_target_BL], reduction="none")
    return -torch.zeros(len(targets_BL), device=losses.device).index_add(0, is_target_BL.nonzero()[:, 0], losses)


def measure_perplexity(
    model: PreTrainedModel,
    examples: Sequence[Example],
    pad_token_id: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Perplexity:
    """Score every example once, on the device that the model is on."""
    total = total_loss(model, examples, pad_token_id, on_progress)
    tokens = count_targets(examples)
    return Perplexity(perplexity_of(total / tokens), tokens, len(examples))


def perplexity_of(nats: float) -> float:
    """Of a mean loss, in nats a token; raises DivergedError where it is beyond any number."""
    try:
        return math.exp(nats)
    except OverflowError:
        raise DivergedError(
            f"the loss is {nats:.4g} nats per token: the training diverged (lower the learning rate), or weights broke"
        ) from None


def count_targets(examples: Sequence[Example]) -> int:
    """The tokens that a loss over these examples is a sum over."""
    return sum(example.num_targets for example in examples)


def total_loss(
    model: PreTrainedModel,
    examples: Sequence[Example],
    pad_token_id: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> float:
    """The summed negative log-likelihood of all assistant tokens, in nats; 0 for no examples."""
    was_training = model.training
    model.eval()
    # Like lengths together, so that little padding is computed.
    ordered = sorted(examples, key=lambda example: len(example.input_ids))
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(ordered), BATCH_SIZE):
            part = ordered[start : start + BATCH_SIZE]
            total += summed_loss(model, collate(part, pad_token_id, model.device)).item()
            if on_progress is not None:
                on_progress(start + len(part), len(ordered))
    model.train(was_training)
    return total


def losses_of(
    model: PreTrainedModel,
    examples: Sequence[Example],
    pad_token_id: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[float]:
    """Of each example by itself: the negative log-likelihood of its labelled tokens, in nats."""
    was_training = model.training
    model.eval()
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].input_ids))
    losses = [0.0] * len(examples)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH_SIZE):
            part = order[start : start + BATCH_SIZE]
            batch = collate([examples[index] for index in part], pad_token_id, model.device)
            for index, value in zip(part, log_likelihoods(model, batch).tolist(), strict=True):
                losses[index] = -value
            if on_progress is not None:
                on_progress(start + len(part), len(order))
    model.train(was_training)
    return losses
