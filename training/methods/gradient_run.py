"""What every run that follows a gradient shares: its processes, seed and folder, the loop, and the registration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from training.errors import RecipeError
from training.evaluate.source import Source
from training.methods.register import register
from training.methods.run_folder import RunFolder
from training.methods.trainer import Objective, Trainer
from training.methods.trial_validation import TrialValidation
from training.outcome import Context, Stopwatch
from training.recipes.sections import GradientRecipe
from training.registry import Checkpoint, DataDigest, Kind

R = TypeVar("R", bound=GradientRecipe)


@contextmanager
def processes() -> Iterator[Accelerator]:
    """Those that torchrun started, or this one alone; their group is left after the block."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    try:
        yield accelerator
    finally:
        accelerator.end_training()


class GradientRun(Generic[R]):
    """One run of one recipe. Raises RecipeError where a step has not an example for each process."""

    example: ClassVar[str] = "example"
    """What the method calls one."""

    def __init__(self, recipe: R, context: Context, accelerator: Accelerator) -> None:
        self.recipe = recipe
        self.context = context
        self.accelerator = accelerator
        self.show = context.show and accelerator.is_main_process
        if recipe.batch_size < accelerator.num_processes:
            raise RecipeError(f"batch_size {recipe.batch_size} is less than one {self.example} for each process")

    def start(self) -> Stopwatch:
        """Begin: seeds all randomness."""
        watch = Stopwatch()
        set_seed(self.recipe.seed)
        return watch

    @contextmanager
    def folder(self, data: Sequence[DataDigest], *origins: Source) -> Iterator[RunFolder]:
        """The folder of the run on this data and these models, which no other run may use meanwhile.

        Its saved state is dropped where the block ends well: what it led to is registered.
        """
        settings = self.recipe.model_dump(mode="json")
        base = " ".join(origin.identity.digest for origin in origins)
        folder = RunFolder.of(self.context.home, self.recipe.name, settings, data, base)
        with folder.held(self.accelerator.is_main_process):
            yield folder
            if self.accelerator.is_main_process:
                folder.finish()
        self.accelerator.wait_for_everyone()

    def trainer(
        self, folder: RunFolder, model: nn.Module, objective: Objective, heldout: Objective | None = None
    ) -> Trainer:
        """The loop; in a trial of `signet tune`, `heldout` tells how it fares."""
        validation = None
        if heldout is not None:
            validation = TrialValidation.of(self.context.trial, heldout, self.recipe.micro_batch_size)
        return Trainer(self.recipe, self.accelerator, folder, model, objective, validation)

    def register(
        self,
        write: Callable[[Path], None],
        *,
        kind: Kind,
        base: Source | None = None,
        parents: Sequence[Source] = (),
        data: Sequence[DataDigest],
        evaluation: Mapping[str, float],
    ) -> Checkpoint | None:
        """Register as `register` does, in the main process; None in the others."""
        if not self.accelerator.is_main_process:
            return None
        return register(
            write,
            self.recipe,
            self.context,
            kind=kind,
            base=base,
            parents=parents,
            data=data,
            evaluation=evaluation,
            show=self.show,
        )
