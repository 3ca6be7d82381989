"""Training runs: a typed recipe in YAML, and the run that turns it into a registered checkpoint.

In come a recipe, the registry and data files; out comes a `Checkpoint` with a signed manifest that says how it was
made. Importing this package does not import torch; its modules `lora` and `sft` do.
"""

from training.recipes.recipe import LoraSettings, OptimizerSettings, Recipe, load_recipe

__all__ = ["LoraSettings", "OptimizerSettings", "Recipe", "load_recipe"]
