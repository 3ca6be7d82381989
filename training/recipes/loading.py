"""Reads recipes: a YAML file whose `method` says which settings it may have."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from training.classifiers.recipe import ClassifierRecipe
from training.errors import RecipeError
from training.names.recipe import NamesRecipe
from training.recipes.recipe import SftRecipe

GuardRecipe = ClassifierRecipe | NamesRecipe
Recipe = SftRecipe | GuardRecipe

_Model = type[SftRecipe] | type[ClassifierRecipe] | type[NamesRecipe]

METHODS: dict[str, _Model] = {
    "lora-sft": SftRecipe,
    "guard-classifiers": ClassifierRecipe,
    "guard-names": NamesRecipe,
}


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `KEY=VALUE` overrides (`optimizer.learning_rate=1e-3`; values are YAML).

    Raises RecipeError, one line naming the file and the setting.
    """
    settings = _read_yaml(path)
    for override in overrides:
        _apply(settings, override)
    model = _model_of(path, settings)
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_explain(error.errors()[0], model)}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text())
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise RecipeError(f"{path}: is not YAML: {why}") from None
    if not isinstance(settings, dict):
        raise RecipeError(f"{path}: holds no settings")
    return settings


def _apply(settings: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {override}: write KEY=VALUE, as in --set steps=10")
    *sections, last = key.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise RecipeError(f"--set {override}: {section} is a value, not a section")
    try:
        settings[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {override}: {value!r} is not a YAML value") from None


def _model_of(path: Path, settings: dict[str, Any]) -> _Model:
    method = settings.get("method")
    if method is None:
        raise RecipeError(f"{path}: setting 'method' is missing")
    model = METHODS.get(str(method))
    if model is None:
        raise RecipeError(f"{path}: method: {method!r} is none of {', '.join(METHODS)}")
    return model


def _explain(error: ErrorDetails, model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown setting {where!r}{_suggestion(error['loc'], model)}"
    if error["type"] == "missing":
        return f"setting {where!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _suggestion(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """The setting that was probably meant."""
    for part in location[:-1]:
        section = model.model_fields[str(part)].annotation
        assert isinstance(section, type)  # a setting can only be unknown within a section
        model = section
    close = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1)
    return f": did you mean {close[0]!r}?" if close else f": known are {', '.join(model.model_fields)}"
