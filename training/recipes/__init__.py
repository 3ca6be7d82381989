"""Training runs: a typed recipe in YAML, and the run that turns it into a registered checkpoint.

In come a recipe, the registry and data files; out comes a `Checkpoint` with a signed manifest that says how it was
made. `method` in a recipe chooses: `lora-sft` fine-tunes a chat model, `guard-classifiers` and `guard-names` train
what the guard looks with. Importing this package does not import torch; its modules `lora` and `sft` do.
"""

from training.recipes.loading import METHODS, GuardRecipe, Recipe, load_recipe
from training.recipes.recipe import LoraSettings, OptimizerSettings, SftRecipe

__all__ = ["METHODS", "GuardRecipe", "LoraSettings", "OptimizerSettings", "Recipe", "SftRecipe", "load_recipe"]
