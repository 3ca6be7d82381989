"""The loop that every gradient method shares: batches, micro-batches, processes, precision, and going on after a stop.

A method brings an `Objective`: what is trained, and the loss of some examples. The loop is the same for one process
and for several under `torchrun`: each step's examples are fixed by the recipe, and the processes share them.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import nn

from training.errors import RecipeError
from training.methods.accounting import Guarantee
from training.methods.interruption import held_interrupts
from training.methods.privacy import PrivateSteps, require_sound
from training.methods.run_folder import RunFolder
from training.methods.schedule import BatchPlan, learning_rate_factor
from training.methods.sharding import (
    copy_shares,
    fill,
    filled,
    shard,
    share_optimizer_state,
    whole,
    without_reduction,
)
from training.methods.trial_validation import TrialValidation
from training.progress import track
from training.recipes.sections import GradientRecipe, Precision

# Seldom enough to cost nothing, often enough to lose little.
SAVE_INTERVAL_SECONDS = 60.0

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Objective(Protocol):
    """What is minimized, over numbered examples."""

    @property
    def lengths(self) -> Sequence[int]:
        """Of every example: what is of a length is computed together, so that little of it is padding."""
        ...

    def weight(self, indices: Sequence[int]) -> int:
        """What the loss of these examples is divided by: how many tokens, texts or pairs it sums over."""
        ...

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        """The summed loss of these examples."""
        ...


@runtime_checkable
class WholeBatchObjective(Objective, Protocol):
    """One whose loss of an example depends on all others of the batch."""

    def prepare(self, model: nn.Module, indices: Sequence[int], micro_batch_size: int) -> None:
        """See a whole batch, over all processes, before the loss of its parts is asked for."""
        ...


@dataclass(frozen=True)
class Training:
    """How the training went."""

    losses: list[float]
    """Of each step: the mean over its weight, before the step."""
    weight: int
    """Over all steps: tokens, texts or pairs."""
    seconds: float
    """Of the steps of this process alone, without those before it continued."""
    guarantee: Guarantee | None = None
    """Of a private run."""

    def figures(self) -> dict[str, float]:
        """For the manifest. Losses are of the very examples that a private run hides, and stay with its owner."""
        if self.guarantee is not None:
            return self.guarantee.figures()
        return {"first_loss": self.losses[0], "last_loss": self.losses[-1]}

    def notes(self) -> list[str]:
        """Lines for the user."""
        return [] if self.guarantee is None else [str(self.guarantee)]


class Trainer:
    """Trains one model by one recipe."""

    def __init__(
        self,
        recipe: GradientRecipe,
        accelerator: Accelerator,
        run: RunFolder,
        model: nn.Module,
        objective: Objective,
        trial_validation: TrialValidation | None = None,
    ) -> None:
        is_sharded = recipe.sharding == "full"
        if is_sharded and recipe.batch_size % accelerator.num_processes:
            # Processes gather each layer together, so that none may have a part more than another.
            raise RecipeError(
                f"sharding: batch_size {recipe.batch_size} is not a multiple of the number of processes, "
                f"{accelerator.num_processes}"
            )
        self.recipe = recipe
        self.accelerator = accelerator
        self.run_folder = run
        self.objective = objective
        self.trial_validation = trial_validation
        self.num_steps = recipe.num_steps(len(objective.lengths))
        self.device = accelerator.device
        self.model = model
        dtype = compute_dtype(recipe.precision)
        self.sharded = shard(model, accelerator, dtype) if is_sharded else None
        trained = self.sharded or model
        self.trained = [parameter for parameter in trained.parameters() if parameter.requires_grad]
        settings = recipe.optimizer
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
        )
        self.autocast: Callable[[], AbstractContextManager[Any]] = (
            nullcontext if dtype == torch.float32 else lambda: torch.autocast(self.device.type, dtype)
        )
        # Gradients of fp16 underflow unless the loss is scaled up (Micikevicius et al. 2018).
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)
        self.private: PrivateSteps | None = None
        if recipe.privacy is not None:
            self.private = PrivateSteps(recipe, accelerator, run, objective, self.num_steps)
        self.parallel: Any = self._parallel()

    def _parallel(self) -> nn.Module:
        if self.sharded is not None:
            return self.sharded
        # Private gradients are summed over the processes clipped, one example after another, and not averaged whole.
        prepared: nn.Module = self.model if self.private is not None else self.accelerator.prepare_model(self.model)
        return prepared

    def train(self, show: bool, after_step: Callable[[int], None] | None = None) -> Training:
        """Take the recipe's steps, from the last saved state on. `after_step(done)` is called after each.

        Ctrl-C saves the state after the step and raises KeyboardInterrupt.
        """
        recipe = self.recipe
        losses = self._restore()
        first = len(losses)
        plan = self.private or BatchPlan(len(self.objective.lengths), recipe.batch_size, recipe.seed)
        weight = 0
        started = saved = time.monotonic()
        self.parallel.train()
        label = f"Training {recipe.name}" + (f", continued at step {first}" if first else "")
        with track(label, show) as progress, _memory_errors(), self._interrupts() as was_interrupted:
            for step, indices in enumerate(plan.steps(self.num_steps)):
                weight += self.objective.weight(indices)
                # Steps of before the stop are drawn again and passed over, so that those after it are the same.
                if step < first:
                    continue
                losses.append(self._step(step, indices))
                progress(step + 1, self.num_steps, f"loss {losses[-1]:.3f}")
                if self._is_due(step + 1, saved):
                    self._save(losses)
                    saved = time.monotonic()
                if self.trial_validation is not None:
                    with self.autocast():
                        self.trial_validation.after_step(self.parallel, step + 1, self.num_steps)
                if after_step is not None:
                    after_step(step + 1)
                if was_interrupted():
                    self._save(losses)
                    raise KeyboardInterrupt(f"run the same command again to continue after step {step + 1}")
        if self.sharded is not None:
            fill(self.model, self.sharded)
        return Training(losses, weight, time.monotonic() - started, self._guarantee(len(losses)))

    def whole_model(self) -> AbstractContextManager[None]:
        """The model with all its weights as they are by now, between steps; all processes enter it together."""
        return nullcontext() if self.sharded is None else filled(self.model, self.sharded)

    def _interrupts(self) -> AbstractContextManager[Callable[[], bool]]:
        # Processes would end at different steps, and wait for each other.
        return held_interrupts() if self.accelerator.num_processes == 1 else nullcontext(lambda: False)

    def _guarantee(self, steps: int) -> Guarantee | None:
        """What a private run has spent; raises TrainingError where its weights are not what training leaves."""
        if self.private is None:
            return None
        require_sound(self.model.named_parameters())
        return self.private.guarantee(steps)

    def _step(self, step: int, batch: Sequence[int]) -> float:
        """One optimizer step on one batch; returns its mean loss.

        Divided by the weight of the whole batch, not of each part, so that neither the number of processes nor the
        micro-batch size weighs examples differently.
        """
        # Seeded by the step, so that dropout is the same whether or not the run was interrupted before it.
        torch.manual_seed(_seed_of(self.recipe.seed, step, self.accelerator.process_index))
        factor = learning_rate_factor(step, self.num_steps, self.recipe.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.optimizer.learning_rate * factor
        if self.private is None:
            mean = self._backward(batch)
        else:
            mean = self.private.backward(self.parallel, self.trained, step, batch, self.autocast)
        # An overflow of fp16 is no fault: the step is not taken, and the scale halves until it ends.
        if not math.isfinite(mean) and not (self.scaler.is_enabled() and self.scaler.get_scale() > 1):
            raise RecipeError("the loss is no longer a number: lower optimizer.learning_rate")
        self.scaler.unscale_(self.optimizer)
        norm = float(whole(nn.utils.clip_grad_norm_(self.trained, self.recipe.optimizer.clip_norm)))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.accelerator.is_main_process:
            rate = self.recipe.optimizer.learning_rate * factor
            self.run_folder.note(step=step, loss=_finite(mean), learning_rate=rate, gradient_norm=_finite(norm))
        return mean

    def _backward(self, batch: Sequence[int]) -> float:
        """Add up the gradients of the batch's mean loss, and return that loss."""
        processes = self.accelerator.num_processes
        ordered = sorted(batch, key=self.objective.lengths.__getitem__)
        # Dealt out by length: processes that wait for each other should take equally long.
        share = ordered[self.accelerator.process_index :: processes]
        weight = self.objective.weight(batch)
        size = self.recipe.micro_batch_size
        parts = [share[start : start + size] for start in range(0, len(share), size)]
        if isinstance(self.objective, WholeBatchObjective):
            with self.autocast():
                self.objective.prepare(self.parallel, ordered, size)
        loss_here = 0.0
        for part in parts:
            is_last = part is parts[-1]
            with nullcontext() if is_last else self._no_sync():
                with self.autocast():
                    loss = self.objective.loss(self.parallel, part)
                # Gradients are averaged over the processes, and must be summed.
                self.scaler.scale(loss * processes / weight).backward()
            loss_here += loss.item()
        return sum_over(self.accelerator, loss_here) / weight

    def _no_sync(self) -> AbstractContextManager[Any]:
        if self.sharded is not None:
            return without_reduction(self.sharded)
        unreduced: AbstractContextManager[Any] = self.accelerator.no_sync(self.parallel)
        return unreduced

    def _is_due(self, done: int, saved: float) -> bool:
        if done == self.num_steps:
            return True  # measuring and registering follow, and may fail
        if self.recipe.save_every is not None:
            return done % self.recipe.save_every == 0
        is_due = time.monotonic() - saved > SAVE_INTERVAL_SECONDS
        # What is divided is gathered by all, at the same step.
        return is_due if self.sharded is None else sum_over(self.accelerator, float(is_due)) > 0

    def _save(self, losses: Sequence[float]) -> None:
        if self.sharded is None and not self.accelerator.is_main_process:
            return
        state = {
            "losses": list(losses),
            "parameters": whole([parameter.detach() for parameter in self.trained]),
            "optimizer": whole(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
        }
        if self.accelerator.is_main_process:
            self.run_folder.save(state)

    def _restore(self) -> list[float]:
        """Take up the saved state, and return the losses up to there."""
        state = self.run_folder.load(self.device)
        losses: list[float] = [] if state is None else state["losses"]
        if state is not None:
            copy_shares(self.trained, state["parameters"])
            self.optimizer.load_state_dict(share_optimizer_state(state["optimizer"], self.trained))
            self.scaler.load_state_dict(state["scaler"])
        if self.accelerator.is_main_process:
            self.run_folder.forget_after(len(losses))
        return losses


@contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RecipeError("out of memory: lower micro_batch_size, or shorten the examples") from error


def _seed_of(*numbers: int) -> int:
    # 7 bytes: PyTorch takes no seed of more than 63 bits.
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=7).digest(), "big")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def compute_dtype(precision: Precision) -> torch.dtype:
    """What to calculate in: CPUs are slower in bf16 than in fp32, GPUs several times faster."""
    if precision == "auto":
        return torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return _DTYPES[precision]


def sum_over(accelerator: Accelerator, value: float) -> float:
    """Over all processes."""
    # In fp64: fp32 would drop single losses from the sum of many.
    here = torch.tensor(value, dtype=torch.float64, device=accelerator.device)
    return float(accelerator.reduce(here, reduction="sum").item())
