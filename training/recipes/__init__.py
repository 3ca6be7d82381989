"""Recipes of `signet train`: YAML that `load_recipe` reads into a typed recipe, whose `method` says what runs it.

Recipes import nothing heavy. What runs them is in `training.methods`.
"""

from training.recipes.loading import load_recipe
from training.recipes.methods import METHODS, Method
from training.recipes.sections import Recipe

__all__ = ["METHODS", "Method", "Recipe", "load_recipe"]
