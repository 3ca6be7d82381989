"""What a method of `signet train` gets and gives."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Protocol

from pydantic import BaseModel, JsonValue

from training.data.sets import AnyRecipe, file_within, find_data_set, paths_in, pinned
from training.errors import DataError
from training.evaluate.source import Source
from training.registry import Checkpoint, Registry


class Trial(Protocol):
    """Who listens to a run that is one of many: it is told the figures, and nothing is registered."""

    def report(self, look: int, loss: float) -> None:
        """How held-out examples fare at look 1, 2, … of a run; may raise to end a run that is not worth going on."""
        ...

    def finish(self, evaluation: Mapping[str, float]) -> NoReturn:
        """What the manifest would say; ends the run by raising."""
        ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where a recipe runs."""

    recipe_path: Path
    """Its relative paths start at this file's folder."""
    home: Path
    """SIGNET_HOME."""
    registry: Registry
    find_model: Callable[[str], Source]
    """The verified model behind a reference."""
    ship: bool = False
    """Whether the guard's new weights go into the installed package."""
    show: bool = True
    """Whether to show progress."""
    trial: Trial | None = None
    """Of `signet tune`."""

    def path(self, of_recipe: Path) -> Path:
        """A path of the recipe: it starts at the recipe's folder or, where nothing is there, at the working directory.

        The latter is where `--set data.train=FILE` is typed. Where neither is there, `NAME[@VERSION]` is a data set of
        the registry.
        """
        on_disk = self.on_disk(of_recipe)
        if on_disk.exists():
            return on_disk
        data_set = find_data_set(of_recipe, self.registry)
        return on_disk if data_set is None else file_within(of_recipe, data_set)

    def on_disk(self, of_recipe: Path) -> Path:
        """A path of the recipe that names no data set."""
        beside = self.recipe_path.parent / of_recipe
        return of_recipe if of_recipe.exists() and not beside.exists() else beside

    def pinned(self, recipe: AnyRecipe) -> AnyRecipe:
        """The recipe with each data set of the registry by its version; verified, so that what is read was signed."""
        made = pinned(recipe, self.registry, self._is_file)
        for data_set in self.data_sets(made):
            self.find_model(data_set.ref)
        return made

    def require_data(self, recipe: BaseModel) -> None:
        """Raise DataError where the section `data` names what is not there: before a model is loaded for nothing."""
        data = getattr(recipe, "data", None)
        for name in type(data).model_fields if isinstance(data, BaseModel) else ():
            named = getattr(data, name)
            if isinstance(named, Path) and not self.path(named).exists():
                raise DataError(
                    f"{self.path(named)}: cannot be read: No such file or directory, and no data set has this name: "
                    f"set it, as in --set data.{name}=FILE"
                )

    def data_sets(self, recipe: BaseModel) -> list[Checkpoint]:
        """The data sets of the registry that a recipe names, each once."""
        checkpoints = (
            find_data_set(path, self.registry) for path in paths_in(recipe) if path.parts and not self._is_file(path)
        )
        return list({checkpoint.ref: checkpoint for checkpoint in checkpoints if checkpoint is not None}.values())

    def _is_file(self, of_recipe: Path) -> bool:
        return self.on_disk(of_recipe).exists()


@dataclass(frozen=True)
class Cost:
    """What a run took."""

    seconds: float
    tokens: int
    """That were trained on or computed; 0 where a method has none."""
    peak_bytes: int
    """Of this process's memory, or of the GPU's where one is used."""

    def __str__(self) -> str:
        tokens = f"{self.tokens:,} tokens, " if self.tokens else ""
        return f"{self.seconds:.0f} s, {tokens}{self.peak_bytes / 1e9:.1f} GB at the peak"


class Stopwatch:
    """Measures a run's cost from when it is made."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def cost(self, tokens: int = 0) -> Cost:
        return Cost(time.monotonic() - self._started, tokens, _peak_bytes())


def _peak_bytes() -> int:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run made and how it went."""

    checkpoint: Checkpoint | None
    """None in the processes of a distributed run that do not register, and where figures are all that was asked for."""
    summary: str
    """The figures, in a line for the user."""
    cost: Cost
    notes: list[str] = field(default_factory=list)
    """Further lines."""
    report: dict[str, JsonValue] = field(default_factory=dict)
    """What `--json` prints beside the checkpoint and the cost."""


def next_steps(checkpoint: Checkpoint) -> list[str]:
    """What a user may do with a model."""
    serve = [f"Serve it:   signet serve --model {checkpoint.ref}"] if checkpoint.manifest.kind != "adapter" else []
    return [*serve, f"Promote it: signet registry promote {checkpoint.ref}"]
