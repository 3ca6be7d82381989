"""Training a model's upper layers alone: what the lower ones say of a text never changes, so it is computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from training.errors import RecipeError
from training.methods.agreement import evaluating
from training.methods.students import layers_of
from training.methods.trainer import Objective
from training.progress import Track

_BATCH_SIZE = 8


class UpperLayersObjective:
    """A loss of right-padded texts, from remembered states: texts × tokens × width × 4 bytes."""

    def __init__(self, own: Objective, model: Any, learned: int) -> None:
        """Freeze all but the `learned` uppermost layers and what comes after them.

        Raises RecipeError where the model has not so many layers.
        """
        layers = list(layers_of(model))
        if learned >= len(layers):
            raise RecipeError(f"layers: the model has {len(layers)}; leave this setting out to train all of them")
        self._own = own
        self._below = layers[:-learned]
        self._states: dict[int, torch.Tensor] = {}
        self._indices: Sequence[int] = ()
        self._returns_tuple = False
        self.lengths = own.lengths
        # Parameters are listed in the order in which they are used: embeddings, layers, head.
        first = next(layers[-learned].parameters())
        for parameter in model.parameters():
            if parameter is first:
                break
            parameter.requires_grad_(False)

    def weight(self, indices: Sequence[int]) -> int:
        """That of the objective itself."""
        return self._own.weight(indices)

    def remember(self, model: nn.Module, progress: Track) -> None:
        """Compute what the lower layers say of every text; once, before any loss."""
        order = sorted(range(len(self.lengths)), key=self.lengths.__getitem__)
        handle = self._below[-1].register_forward_hook(self._keep)
        try:
            with evaluating(model):
                for start in range(0, len(order), _BATCH_SIZE):
                    self._indices = order[start : start + _BATCH_SIZE]
                    try:
                        self._own.loss(model, self._indices)
                    except _ForwardStopped:
                        progress(start + len(self._indices), len(order))
        finally:
            handle.remove()

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        """That of the objective itself."""
        self._indices = indices
        with self._lower_passed_over():
            return self._own.loss(model, indices)

    @contextmanager
    def _lower_passed_over(self) -> Iterator[None]:
        *passed, last = self._below
        for layer in passed:
            layer.forward = lambda states, *_, **__: self._returned(states)
        last.forward = lambda *_, **__: self._returned(self._recall())
        try:
            yield
        finally:
            for layer in self._below:
                del layer.forward  # uncovers the class's own

    def _keep(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        self._returns_tuple = isinstance(output, tuple)
        states_BLE = output[0] if self._returns_tuple else output
        for index, states_LE in zip(self._indices, states_BLE, strict=True):
            self._states[index] = states_LE[: self.lengths[index]].clone()
        raise _ForwardStopped  # the layers above are not run

    def _recall(self) -> torch.Tensor:
        """As if computed now: (texts, longest of them, width)."""
        return nn.utils.rnn.pad_sequence([self._states[index] for index in self._indices], batch_first=True)

    def _returned(self, states: torch.Tensor) -> Any:
        return (states,) if self._returns_tuple else states


class _ForwardStopped(Exception):
    """Ends a forward pass once the lower layers' output is computed."""
