"""What a student minimizes: how far it is from its teacher, and from the data (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, kl_div, logsigmoid

from training.data import Example
from training.evaluate.perplexity import collate, count_targets, target_logits, targets

if TYPE_CHECKING:
    from training.methods.classify import LabelObjective


def divergence(student_NV: torch.Tensor, teacher_NV: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(teacher ‖ student) of softened distributions over the last dimension, summed, in nats.

    Times the square of the temperature, which keeps its gradients as large as those of the cross-entropy beside it.
    """
    student, teacher = (logits / temperature for logits in (student_NV, teacher_NV))
    soft = kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="sum", log_target=True)
    return soft * temperature**2


def binary_divergence(student_NC: torch.Tensor, teacher_NC: torch.Tensor, temperature: float) -> torch.Tensor:
    """The same, of each column as a yes or no of its own."""
    student, teacher = student_NC / temperature, teacher_NC / temperature
    yes = teacher.sigmoid()
    # Taken off, so that the divergence is 0 where the student agrees; it has no gradient.
    entropy = -(yes * logsigmoid(teacher) + (1 - yes) * logsigmoid(-teacher)).sum()
    crossed = binary_cross_entropy_with_logits(student, yes, reduction="sum")
    return (crossed - entropy) * temperature**2


class TokenDistillation:
    """A language model's loss on the tokens that its examples label."""

    def __init__(
        self, examples: Sequence[Example], pad_token_id: int, teacher: nn.Module, alpha: float, temperature: float
    ) -> None:
        self._examples = examples
        self._pad_token_id = pad_token_id
        self._teacher = teacher.eval()
        self._alpha = alpha
        self._temperature = temperature
        self.lengths = [len(example.input_ids) for example in examples]

    def weight(self, indices: Sequence[int]) -> int:
        """Tokens that are predicted."""
        return count_targets([self._examples[index] for index in indices])

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        """In nats."""
        device = next(model.parameters()).device
        batch = collate([self._examples[index] for index in indices], self._pad_token_id, device)
        student_NV = target_logits(model, batch)
        loss = self._alpha * cross_entropy(student_NV, targets(batch), reduction="sum")
        if self._alpha == 1:
            return loss  # the teacher would be asked for nothing
        with torch.no_grad():
            teacher_NV = target_logits(self._teacher, batch)
        # Some models pad their vocabulary to a round number; tokens are in neither's padding.
        shared = min(student_NV.shape[1], teacher_NV.shape[1])
        soft = divergence(student_NV[:, :shared], teacher_NV[:, :shared], self._temperature)
        return loss + (1 - self._alpha) * soft


class LabelDistillation:
    """A classifier's loss. `teacher_NC` is what the teacher says of every text, asked once."""

    def __init__(self, own: LabelObjective, teacher_NC: torch.Tensor, alpha: float, temperature: float) -> None:
        self._own = own
        self._teacher_NC = teacher_NC
        self._alpha = alpha
        self._temperature = temperature
        self.lengths = own.lengths

    def weight(self, indices: Sequence[int]) -> int:
        """Texts."""
        return self._own.weight(indices)

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        """In nats."""
        student_BC = self._own.logits(model, indices)
        away = binary_divergence if self._own.is_multi_label else divergence
        soft = away(student_BC, self._teacher_NC[list(indices)], self._temperature)
        return self._alpha * self._own.against_labels(student_BC, indices) + (1 - self._alpha) * soft
