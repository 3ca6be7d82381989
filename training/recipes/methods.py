"""The methods of `signet train`: what a recipe's `method` may be, the recipe it wants, and what runs it.

A method is one row here, a typed recipe that imports nothing heavy, and a function `run(recipe, context) -> Outcome`
in a module that is imported when the recipe runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast

from training.disk import disk_fault
from training.errors import TrainingError
from training.recipes.classify import ClassifyRecipe
from training.recipes.data import DataRecipe
from training.recipes.distill import DistillRecipe
from training.recipes.dpo import DpoRecipe
from training.recipes.embed import EmbedRecipe
from training.recipes.guard import ClassifierRecipe, NamesRecipe
from training.recipes.merge import MergeRecipe
from training.recipes.pretrain import PretrainRecipe
from training.recipes.prune import PruneRecipe
from training.recipes.sections import Recipe
from training.recipes.sft import SftRecipe
from training.recipes.shrink import ShrinkRecipe
from training.recipes.tokenizer import TokenizerRecipe
from training.registry import RegistryError

if TYPE_CHECKING:
    from training.outcome import Context, Outcome


class Method(NamedTuple):
    """One row."""

    recipe: type[Recipe]
    module: str
    """Holds `run`."""
    summary: str

    def run(self, recipe: Recipe, context: Context) -> Outcome:
        """Run a recipe of this method; raises TrainingError or RegistryError, one line each."""
        run = cast("Callable[[Recipe, Context], Outcome]", importlib.import_module(self.module).run)
        try:
            pinned = context.pinned(recipe)
            context.require_data(pinned)
            return run(pinned, context)
        except (TrainingError, RegistryError):
            raise
        except Exception as error:
            why = disk_fault(error, context.home)
            if why is None:
                raise
            raise TrainingError(why) from None


METHODS: dict[str, Method] = {
    "sft": Method(SftRecipe, "training.methods.sft", "a language model learns from chats or plain text"),
    "pretrain": Method(PretrainRecipe, "training.methods.pretrain", "a language model learns from text alone"),
    "classify": Method(ClassifyRecipe, "training.methods.classify", "a model learns to classify texts"),
    "embed": Method(EmbedRecipe, "training.methods.embed", "a model learns vectors, by which queries find texts"),
    "dpo": Method(DpoRecipe, "training.methods.dpo", "a chat model learns which of two answers is preferred"),
    "merge": Method(
        MergeRecipe, "training.methods.merge", "makes one model from several, or from a base and its adapter"
    ),
    "distill": Method(DistillRecipe, "training.methods.distill", "a smaller model learns from a larger one"),
    "prune": Method(PruneRecipe, "training.methods.prune", "removes the least important parts of a model"),
    "data": Method(DataRecipe, "training.methods.data", "makes a data set from files: cleaned, deduplicated, split"),
    "shrink": Method(ShrinkRecipe, "training.methods.shrink", "extracts what a model learned as a LoRA adapter"),
    "tokenizer": Method(TokenizerRecipe, "training.methods.tokenizer", "trains a tokenizer, or adds tokens to a model"),
    "guard-classifiers": Method(ClassifierRecipe, "training.methods.guard", "trains the guard's attack classifiers"),
    "guard-names": Method(NamesRecipe, "training.methods.guard", "trains the guard's tagger of names and addresses"),
}
