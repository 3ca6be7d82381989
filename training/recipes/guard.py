"""The recipes of what the guard looks with: everything that the weights depend on besides the content of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from training.recipes.sections import Recipe


class ClassifierRecipe(Recipe):
    """Trains all classifiers of the guard."""

    method: Literal["guard-classifiers"]
    """The method, which determines the other settings."""
    data: Path | None = None
    """Folder of the openly licensed data sets. Without it, only generated texts are trained on."""
    encoder: Path | None = None
    """Folder of a sentence encoder to distill word meanings from, instead of using the shipped ones."""
    second_look: Path | None = None
    """Folder of a sentence encoder that gateways may ask about uncertain texts; trains what this needs as well."""
    size: Annotated[int, Field(ge=20)] = 3000
    """Generated texts for each category."""
    epochs: Annotated[int, Field(ge=1)] = 6
    """Passes over the texts."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    """Learning rate of the logistic regressions."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight decay of the logistic regressions."""
    false_flags: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    """Rate of false flags on each harmless calibration source, which determines the thresholds."""
    license: str = "Apache-2.0"
    """SPDX expression of the weights' licence."""


class NamesRecipe(Recipe):
    """Trains the tagger of names and addresses."""

    method: Literal["guard-names"]
    """The method, which determines the other settings."""
    texts: Annotated[int, Field(ge=100)] = 120_000
    """Number of texts to generate. A twentieth as many more are held out to measure on."""
    epochs: Annotated[int, Field(ge=1)] = 3
    """Passes over the texts."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.03
    """Learning rate of the regression."""
    draws: Annotated[int, Field(ge=10)] = 300
    """Streets and towns to draw for each of faker's locales."""
    lean: tuple[float, float] = (0.75, 1.5)
    """Log odds added in favor of names and of addresses."""
    prose: tuple[Path, ...] = ()
    """More folders of Markdown that name no person."""
    license: str = "Apache-2.0"
    """SPDX expression of the weights' licence."""
