"""The recipe: everything that a training run depends on besides its data and its base, in one YAML file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from training.errors import RecipeError
from training.registry.manifest import NAME_PATTERN


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class DataSettings(_Settings):
    """Which chats are learned from and which are held out to measure by."""

    train: Path
    """JSONL chats. Relative paths start at the recipe's folder."""
    heldout: Path | None = None
    """JSONL chats that are never trained on; without it, a part of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Which part of `train`, where `heldout` is not given."""
    max_tokens: Annotated[int, Field(ge=8)] = 512
    """Longer chats are cut here."""


class LoraSettings(_Settings):
    """Low-rank adapters (Hu et al. 2021): what is trained, the base stays as it is."""

    rank: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16
    """The adapter's output is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Names of the modules that get an adapter."""


class OptimizerSettings(_Settings):
    """AdamW, with a linear warm-up and a cosine decay to zero."""

    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients whose norm is larger are scaled down to it."""


class Recipe(_Settings):
    """A supervised fine-tuning of a chat model with LoRA."""

    method: Literal["lora-sft"]
    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    """Under which the result is registered, as its next version."""
    base: str
    """The model to start from: NAME[@VERSION] in the registry, a digest, or a folder's path."""
    data: DataSettings
    steps: Annotated[int, Field(ge=1)]
    """Optimizer steps."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Chats in each step, over all processes."""
    micro_batch_size: Annotated[int, Field(ge=1)] = 8
    """Chats that one process computes at once: lower it when memory runs out, the result stays."""
    lora: LoraSettings = LoraSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    output: Literal["merged", "adapter"] = "merged"
    """A whole model with the adapter folded in, or the adapter alone, for this base only."""
    seed: Annotated[int, Field(ge=0)] = 0
    license: str | None = None
    """SPDX expression of the result's licence; by default the base's."""

    @model_validator(mode="after")
    def _check_heldout(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out chats must not be trained on")
        return self


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `KEY=VALUE` overrides (`optimizer.learning_rate=1e-3`; values are YAML).

    Raises RecipeError, one line naming the file and the setting.
    """
    settings = _read_yaml(path)
    for override in overrides:
        _apply(settings, override)
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_explain(error.errors()[0])}") from None


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


def _explain(error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown setting {where!r}{_suggestion(error['loc'])}"
    if error["type"] == "missing":
        return f"setting {where!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _suggestion(location: tuple[int | str, ...]) -> str:
    """The setting that was probably meant."""
    model: type[BaseModel] = Recipe
    for part in location[:-1]:
        model = type(getattr(_EXAMPLE, str(part)))
    close = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1)
    return f": did you mean {close[0]!r}?" if close else f": known are {', '.join(model.model_fields)}"


_EXAMPLE = Recipe(method="lora-sft", name="x", base="x", data=DataSettings(train=Path("x")), steps=1)
