"""What is searched: the section `search` of a recipe, and one draw from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from training.errors import RecipeError
from training.outcome import Context
from training.recipes.loading import variant
from training.recipes.sections import GradientRecipe, RangeSettings, Recipe, Search

# Of other values, trials would not be comparable, or not be one recipe.
_FIXED = ("method", "name", "license", "search", "data.heldout", "data.heldout_fraction")


def require_space(recipe: Recipe, path: Path) -> tuple[GradientRecipe, Search]:
    """The recipe and its section `search`; raises RecipeError where it has none, or names what no recipe can be."""
    if not isinstance(recipe, GradientRecipe):
        raise RecipeError(
            f"{path}: method: {recipe.method} does not train by gradient descent: there is nothing to tune"
        )
    if recipe.search is None:
        raise RecipeError(
            f"{path}: has no section search: say what to try, as in "
            "search: {optimizer.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}}"
        )
    for name, space in recipe.search.items():
        if name in _FIXED:
            raise RecipeError(f"{path}: search.{name}: must be the same in all trials")
        for value in space if isinstance(space, list) else (space.low, space.high):
            variant(path, recipe, {name: value})
    return recipe, recipe.search


def draw(trial: optuna.Trial, search: Search) -> dict[str, Any]:
    """A value for each searched setting."""
    return {name: _draw(trial, name, space) for name, space in search.items()}


def _draw(trial: optuna.Trial, name: str, space: RangeSettings | list[Any]) -> Any:
    if isinstance(space, list):
        # As JSON: a choice may be a whole section.
        return json.loads(str(trial.suggest_categorical(name, [json.dumps(choice) for choice in space])))
    if isinstance(space.low, int) and isinstance(space.high, int):
        return trial.suggest_int(name, space.low, space.high, log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def drawn(params: Mapping[str, Any], search: Search) -> dict[str, Any]:
    """What an earlier trial drew, from the store."""
    return {
        name: json.loads(value) if isinstance(search[name], list) else value
        for name, value in params.items()
        if name in search
    }


def best_settings(recipe: GradientRecipe, values: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """The recipe with these values, for a file anywhere: its paths are absolute."""
    chosen = variant(context.recipe_path, recipe, values)
    settings: dict[str, Any] = _anywhere(chosen.model_dump(exclude_unset=True), context)
    return settings


def _anywhere(value: Any, context: Context) -> Any:
    if isinstance(value, dict):
        return {key: _anywhere(item, context) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_anywhere(item, context) for item in value]
    if isinstance(value, Path):
        on_disk = context.on_disk(value)
        return str(on_disk.resolve() if on_disk.exists() else value)  # or a data set of the registry
    return value
