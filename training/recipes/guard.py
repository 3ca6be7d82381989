"""The recipes of what the guard looks with: everything that the weights depend on besides the content of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from training.recipes.sections import Recipe


class ClassifierRecipe(Recipe):
    """One training of all classifiers of the guard."""

    method: Literal["guard-classifiers"]
    """What is done; the rest of the recipe depends on it."""
    data: Path | None = None
    """Folder of the openly licensed data sets; without it, only texts of our own grammar are learnt from."""
    encoder: Path | None = None
    """Folder of a sentence encoder from which the meanings of words are distilled anew, instead of taken as shipped."""
    second_look: Path | None = None
    """Folder of a sentence encoder that gateways may ask about texts in doubt: what it takes is then trained too."""
    size: Annotated[int, Field(ge=20)] = 3000
    """Texts of our own grammar for each category."""
    epochs: Annotated[int, Field(ge=1)] = 6
    """Passes over the texts."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    """Of the logistic regressions."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Of the logistic regressions."""
    false_flags: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    """Rate of false flags on each harmless calibration source, from which the thresholds follow."""
    license: str = "Apache-2.0"
    """SPDX expression of the weights' licence."""


class NamesRecipe(Recipe):
    """One training of the tagger of names and addresses."""

    method: Literal["guard-names"]
    """What is done; the rest of the recipe depends on it."""
    texts: Annotated[int, Field(ge=100)] = 120_000
    """How many are generated to learn from; a twentieth as many more are held out to measure by."""
    epochs: Annotated[int, Field(ge=1)] = 3
    """Passes over the texts."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.03
    """Of the regression."""
    draws: Annotated[int, Field(ge=10)] = 300
    """Streets and towns that are drawn for each of faker's locales."""
    lean: tuple[float, float] = (0.75, 1.5)
    """Log odds by which names and addresses are preferred to nothing."""
    prose: tuple[Path, ...] = ()
    """More folders of Markdown in which no person is named."""
    license: str = "Apache-2.0"
    """SPDX expression of the weights' licence."""
