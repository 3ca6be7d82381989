"""The private step: DP-SGD (Abadi et al. 2016), by which weights tell little of any one example.

Each example's gradient is computed alone, by plain backpropagation, and scaled down to a norm; only their noisy sum
leaves this module. That is right for every model and every loss of an example. Hooks that take the gradients of a batch
apart, as Opacus has, are not: they must know each layer, and are silently wrong where one is used in a way that they do
not predict (DoRA, routed experts, broadcast positions; Opacus issue 820).
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from training.errors import RecipeError, TrainingError
from training.methods.accounting import Guarantee, find_noise, guarantee
from training.methods.run_folder import RunFolder
from training.recipes.sections import GradientRecipe

NOISE_KEY = "noise.key"
_KEY_BYTES = 32


class _Examples(Protocol):
    """What is needed of an objective."""

    @property
    def lengths(self) -> Sequence[int]: ...
    def weight(self, indices: Sequence[int]) -> int: ...
    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor: ...


class SecretDraws:
    """Random numbers of one run, each step's of its own; whoever has not the key cannot draw them again.

    The seed of a recipe is public, and noise that anyone can draw again protects nothing. The same run on the same
    machine draws the same: it can go on after a stop, and, run again, makes the same weights and spends nothing anew.
    """

    def __init__(self, key: bytes, run: str) -> None:
        self._key = key
        self._run = run

    def of(self, purpose: str, step: int) -> np.random.Generator:
        """Philox with 128 secret bits; PyTorch's generator on CPUs takes but 32 of its seed."""
        name = f"{self._run} {purpose} {step}".encode()
        digest = hashlib.blake2b(name, key=self._key, digest_size=16).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "big")))


class PrivateSteps:
    """Which examples each step draws, and the one gradient that is seen of them."""

    def __init__(
        self, recipe: GradientRecipe, accelerator: Accelerator, run: RunFolder, objective: _Examples, num_steps: int
    ) -> None:
        assert recipe.privacy is not None  # only private runs take private steps
        self.settings = recipe.privacy
        self.accelerator = accelerator
        self.objective = objective
        self.batch_size = recipe.batch_size
        self.num_examples = len(objective.lengths)
        self._check()
        self.sample_rate = recipe.batch_size / self.num_examples
        self.noise_multiplier = find_noise(self.settings, self.sample_rate, num_steps)
        self.guarantee(num_steps)  # what is planned must be within the budget as well: no run is in vain
        self._draws = SecretDraws(_shared_key(accelerator, run.path.parent / NOISE_KEY), run.path.name)

    def _check(self) -> None:
        if self.batch_size > self.num_examples:
            raise RecipeError(
                f"batch_size {self.batch_size} is more than the {self.num_examples} examples: with privacy, a step "
                "draws each of them at most once"
            )
        if self.settings.delta >= 1 / self.num_examples:
            raise RecipeError(
                f"privacy.delta {self.settings.delta:g} would allow revealing one of the {self.num_examples} examples: "
                f"set it far below {1 / self.num_examples:.2g}"
            )

    def steps(self, num_steps: int) -> Iterator[list[int]]:
        """The indices of each step: every example is drawn by itself, `batch_size` of them on average."""
        for step in range(num_steps):
            drawn = self._draws.of("sample", step).random(self.num_examples) < self.sample_rate
            yield np.flatnonzero(drawn).tolist()

    def backward(
        self,
        model: nn.Module,
        trained: Sequence[nn.Parameter],
        step: int,
        batch: Sequence[int],
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> float:
        """Leave the noisy mean gradient in `trained`, and return the mean loss of the examples, 0 where none was drawn.

        An example's loss is its mean over its own tokens: divided by those of the whole batch, it would depend on
        the others. The sum is divided by the expected number of examples, as the real one is a secret too.
        """
        sums = [torch.zeros_like(parameter) for parameter in trained]
        loss_here = 0.0
        for index in batch[self.accelerator.process_index :: self.accelerator.num_processes]:
            with autocast():
                loss = self.objective.loss(model, [index]) / max(1, self.objective.weight([index]))
            # Unused: a loss need not reach every weight, such as those of a module that is not called.
            gradients = torch.autograd.grad(loss, trained, allow_unused=True)
            norm = _norm(gradients)
            if not math.isfinite(norm):
                raise RecipeError("the loss is no longer a number: lower optimizer.learning_rate")
            # The small number keeps an example without a gradient from dividing by zero.
            scale = min(1.0, self.settings.clip / (norm + 1e-6))
            for total, gradient in zip(sums, gradients, strict=True):
                if gradient is not None:
                    total.add_(gradient, alpha=scale)
            loss_here += loss.item()
        noise = self._draws.of("noise", step)
        deviation = self.noise_multiplier * self.settings.clip
        for parameter, total in zip(trained, sums, strict=True):
            if self.accelerator.num_processes > 1:
                total = self.accelerator.reduce(total, reduction="sum")
            # Every process draws the same, and the sum gets it once.
            drawn = torch.from_numpy(noise.standard_normal(tuple(total.shape), dtype=np.float32))
            parameter.grad = total.add_(drawn.to(total), alpha=deviation).div_(self.batch_size)
        here = torch.tensor(loss_here, dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(here, reduction="sum").item()) / max(1, len(batch))

    def guarantee(self, steps: int) -> Guarantee:
        """What so many steps have spent."""
        return guarantee(self.settings, self.noise_multiplier, self.sample_rate, steps)


def require_sound(named: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Raise TrainingError where a trained weight is not finite, or all zero: noise alone would have moved it."""
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        if not parameter.isfinite().all():
            raise TrainingError(f"privacy: {name} is not finite after training: nothing was registered")
        if not parameter.any():
            raise TrainingError(f"privacy: {name} is all zero after training: nothing was registered")


def _norm(gradients: Sequence[torch.Tensor | None]) -> float:
    squares = [gradient.float().square().sum() for gradient in gradients if gradient is not None]
    return math.sqrt(float(torch.stack(squares).sum())) if squares else 0.0


def _shared_key(accelerator: Accelerator, path: Path) -> bytes:
    """The first process's: others may run on machines with keys of their own."""
    key = [noise_key(path) if accelerator.is_main_process else b""]
    return bytes(broadcast_object_list(key)[0]) if accelerator.num_processes > 1 else key[0]


def noise_key(path: Path) -> bytes:
    """This machine's key of noise, drawn on first use and readable by its owner alone."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = _draw_key(path)
    if len(key) != _KEY_BYTES:
        raise TrainingError(f"{path}: is not a key of {_KEY_BYTES} bytes; move it away to have a new one drawn")
    return key


def _draw_key(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass  # of two that start together the second takes the first one's
    finally:
        os.unlink(temporary)
    return path.read_bytes()
