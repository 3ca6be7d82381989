"""Runs the guard's recipes: a small model is trained, registered like any checkpoint, and shipped where asked."""

from __future__ import annotations

import json
import os
from pathlib import Path

from training.errors import RecipeError
from training.methods.guard_weights import CARD, GuardWeights
from training.methods.register import register
from training.outcome import Context, Outcome, Stopwatch
from training.recipes.guard import ClassifierRecipe, NamesRecipe
from training.registry.signature import replace_file

GuardRecipe = ClassifierRecipe | NamesRecipe


def run(recipe: GuardRecipe, context: Context) -> Outcome:
    """Train and register; with `ship`, the package gets what was registered."""
    path = context.recipe_path
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(f"{path}: trains in one process: start it without torchrun")
    watch = Stopwatch()
    trained = _train(recipe, path.parent)

    def write(folder: Path) -> None:
        trained.write(folder / trained.shipped.name)
        (folder / CARD).write_text(json.dumps(trained.card, indent=2) + "\n")

    checkpoint = register(
        write, recipe, context, kind="classifier", data=trained.digests, evaluation=trained.evaluation
    )
    if context.ship:
        for name in (trained.shipped.name, CARD):
            replace_file(trained.shipped.with_name(name), (checkpoint.path / name).read_bytes())
    as_shipped = _content(trained.shipped) == _content(checkpoint.path / trained.shipped.name)
    held = "are" if as_shipped else "are not"
    return Outcome(
        checkpoint=checkpoint,
        summary=f"data card in {checkpoint.path}",
        cost=watch.cost(),
        notes=[
            *(
                f"{name:<40} {value:.3f}" if value < 1 else f"{name:<40} {value:g}"
                for name, value in trained.evaluation.items()
            ),
            f"Its weights {held} the ones that gateways read ({trained.shipped})",
        ],
        report={"evaluation": dict(trained.evaluation), "as_shipped": as_shipped},
    )


def _train(recipe: GuardRecipe, folder: Path) -> GuardWeights:
    # numpy for the one, torch and faker for the other.
    if isinstance(recipe, NamesRecipe):
        from training.guard.ner.train import train as train_ner

        return train_ner(recipe, folder)
    from training.guard.classifiers.train import train as train_classifiers

    return train_classifiers(recipe, folder)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
