"""Runs the guard's recipes: a small model is trained, registered like any checkpoint, and shipped where asked."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import RecipeError
from training.names.recipe import NamesRecipe
from training.recipes.code_version import code_version
from training.recipes.loading import GuardRecipe
from training.recipes.work import work_folder
from training.registry import Checkpoint, DataDigest, ManifestDraft, RecipeRecord, Registry
from training.registry.signature import replace_file

CARD = "data-card.json"
"""Lies beside the weights, in the checkpoint and in the package."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training of one of the guard's models gives."""

    write: Callable[[Path], None]
    """Writes the weights to a file, the same bytes for the same weights."""
    shipped: Path
    """The package's file of such weights, which the gateway reads."""
    evaluation: dict[str, float]
    card: dict[str, Any]
    """What a user has to know about the data."""
    digests: list[DataDigest]


@dataclass(frozen=True, slots=True)
class GuardOutcome:
    """What a run made."""

    checkpoint: Checkpoint
    weights: Path
    """In the package."""
    as_shipped: bool
    """Whether the package now holds these very weights."""
    seconds: float


def run_guard(recipe: GuardRecipe, path: Path, home: Path, registry: Registry, ship: bool) -> GuardOutcome:
    """Train and register; with `ship`, the package gets what was registered."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(f"{path}: trains in one process: start it without torchrun")
    started = time.monotonic()
    trained = _train(recipe, path.parent)
    draft = ManifestDraft(
        kind="classifier",
        recipe=RecipeRecord(name=path.name, settings=recipe.model_dump(mode="json")),
        data=trained.digests,
        code_version=code_version(),
        evaluation=trained.evaluation,
        license=recipe.license,
    )
    with work_folder(home) as folder:
        trained.write(folder / trained.shipped.name)
        (folder / CARD).write_text(json.dumps(trained.card, indent=2) + "\n")
        checkpoint = registry.register(folder, recipe.name, draft)
    if ship:
        for name in (trained.shipped.name, CARD):
            replace_file(trained.shipped.with_name(name), (checkpoint.path / name).read_bytes())
    as_shipped = _content(trained.shipped) == _content(checkpoint.path / trained.shipped.name)
    return GuardOutcome(checkpoint, trained.shipped, as_shipped, time.monotonic() - started)


def _train(recipe: GuardRecipe, folder: Path) -> Trained:
    # numpy for the one, torch and faker for the other.
    if isinstance(recipe, NamesRecipe):
        from training.names.train import train as train_names

        return train_names(recipe, folder)
    from training.classifiers.train import train as train_classifiers

    return train_classifiers(recipe, folder)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
