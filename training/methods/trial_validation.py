"""Validation while a trial of `signet tune` is trained, by which bad trials end early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn

from training.outcome import Trial

CHECKS = 10
"""In each run; the last is what the method itself measures. Equal parts of runs of any length are compared."""
# Enough to tell a bad run from a good one, cheap beside the steps between.
_EXAMPLES = 64


class _Examples(Protocol):
    @property
    def lengths(self) -> Sequence[int]: ...
    def weight(self, indices: Sequence[int]) -> int: ...
    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor: ...


class TrialValidation:
    """Reports to a trial the mean loss of some held-out examples, spread evenly over all."""

    def __init__(self, trial: Trial, heldout: _Examples, at_once: int) -> None:
        self._trial = trial
        self._heldout = heldout
        count = len(heldout.lengths)
        # The step is rounded up, so that it is never more than _EXAMPLES.
        indices = list(range(0, count, -(-count // _EXAMPLES)))
        self._parts = [indices[start : start + at_once] for start in range(0, len(indices), at_once)]
        self._weight = max(1, heldout.weight(indices))

    @classmethod
    def of(cls, trial: Trial | None, heldout: _Examples, at_once: int) -> TrialValidation | None:
        """None where the run is no trial."""
        return None if trial is None else cls(trial, heldout, at_once)

    def after_step(self, model: nn.Module, done: int, steps: int) -> None:
        """Validate whenever a further tenth of the steps is done; raises where the trial ends."""
        check = done * CHECKS // steps
        if check == (done - 1) * CHECKS // steps or done == steps:
            return
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            loss = sum(self._heldout.loss(model, part).item() for part in self._parts) / self._weight
        model.train(was_training)
        self._trial.report(check, loss)
