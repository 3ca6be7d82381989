"""Reads recipes: a YAML file whose `method` says which settings it may have."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from training.errors import RecipeError
from training.recipes.methods import METHODS
from training.recipes.sections import Recipe, sections_in
from training.registry.manifest import NAME_PATTERN

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `KEY=VALUE` overrides (`optimizer.learning_rate=1e-3`; values are YAML).

    Raises RecipeError, one line naming the file and the setting.
    """
    settings = _read_yaml(path)
    for override in overrides:
        _apply(settings, override)
    settings = _as_sft(settings)
    return _validated(path, settings, _model_of(path, settings))


def variant(path: Path, recipe: AnyRecipe, values: Mapping[str, Any]) -> AnyRecipe:
    """The recipe of that file with other settings, by their dotted names, and without its section `search`."""
    settings = recipe.model_dump(mode="json", exclude_unset=True, exclude={"search"})
    for name, value in values.items():
        _assign(settings, name, value, name)
    return _validated(path, settings, type(recipe))


def _validated(path: Path, settings: dict[str, Any], model: type[AnyRecipe]) -> AnyRecipe:
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
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {override}: {value!r} is not a YAML value") from None
    _assign(settings, key, parsed, f"--set {override}")


def _assign(settings: dict[str, Any], key: str, value: Any, what: str) -> None:
    """Set a dotted key; `what` begins the error."""
    *sections, last = key.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise RecipeError(f"{what}: {section} is a value, not a section")
    settings[last] = value


def _as_sft(settings: dict[str, Any]) -> dict[str, Any]:
    """Read `lora-sft`, the older name of `sft` with a LoRA adapter, whose section was `lora`."""
    if settings.get("method") != "lora-sft":
        return settings
    renamed = {"adapter" if key == "lora" else key: value for key, value in settings.items()}
    return {"adapter": "lora", **renamed, "method": "sft"}


def _model_of(path: Path, settings: dict[str, Any]) -> type[Recipe]:
    method = settings.get("method")
    if method is None:
        raise RecipeError(f"{path}: setting 'method' is missing")
    row = METHODS.get(str(method))
    if row is None:
        raise RecipeError(f"{path}: method: {method!r} is not one of {', '.join(METHODS)}")
    return row.recipe


def _explain(error: ErrorDetails, model: type[BaseModel]) -> str:
    sections, names = _walk(error["loc"], model)
    where = ".".join(names)
    if error["type"] == "extra_forbidden":
        others = [name for name, method in METHODS.items() if where in method.recipe.model_fields]
        if others:
            return f"unknown setting {where!r}: this method does not take it ({', '.join(others)} do)"
        return f"unknown setting {where!r}{_suggestion(names[-1], sections)}"
    if error["type"] == "missing":
        return f"setting {where!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch" and error["ctx"]["pattern"] == NAME_PATTERN:
        message = (
            f"{error['input']!r} is no name: write a-z, 0-9, '.', '_' and '-', at most 63, a letter or digit first"
        )
    return f"{where}: {message}" if where else message


def _walk(location: Sequence[int | str], model: type[BaseModel]) -> tuple[list[type[BaseModel]], list[str]]:
    """The sections that the last part of an error's location may be in, and the location as a user would write it.

    Pydantic also names the member of a union that it tried, which is no setting: only a section's fields are.
    """
    sections, names = [model], []
    is_key = False
    for part in location[:-1]:
        within = [section.model_fields[str(part)] for section in sections if str(part) in section.model_fields]
        if within or is_key or not sections:
            names.append(str(part))
        if within or not sections:
            sections = [found for field in within for found in sections_in(field.annotation)]
        is_key = any(_is_mapping(field.annotation) for field in within)
    return sections, [*names, *(str(part) for part in location[-1:])]


def _is_mapping(annotation: Any) -> bool:
    return typing.get_origin(annotation) is dict or any(map(_is_mapping, typing.get_args(annotation)))


def _suggestion(name: str, sections: Sequence[type[BaseModel]]) -> str:
    """The setting that was probably meant."""
    known = list(dict.fromkeys(field for section in sections for field in section.model_fields))
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else f": known are {', '.join(known)}"
