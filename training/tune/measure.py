"""By which figure a method's trials are compared: what it measures on held-out data."""

from __future__ import annotations

from typing import Literal, NamedTuple

from training.outcome import Context
from training.recipes.sections import GradientRecipe


class Measure(NamedTuple):
    """A figure of the manifest, and which way it is better."""

    name: str
    direction: Literal["minimize", "maximize"]


_PERPLEXITY = Measure("perplexity_after", "minimize")
_MACRO_F1 = Measure("macro_f1", "maximize")

_MEASURES = {
    "sft": _PERPLEXITY,
    "distill": _PERPLEXITY,
    "prune": _PERPLEXITY,
    "pretrain": Measure("validation_loss", "minimize"),
    "classify": _MACRO_F1,
    "embed": Measure("mrr", "maximize"),
    "dpo": Measure("reward_accuracy", "maximize"),
}


def measure_of(recipe: GradientRecipe, context: Context) -> Measure:
    """The method's own; a student of a classifier is one itself."""
    teacher = getattr(recipe, "teacher", None)
    if teacher is not None and context.find_model(teacher).kind == "classifier":
        return _MACRO_F1
    return _MEASURES[recipe.method]
