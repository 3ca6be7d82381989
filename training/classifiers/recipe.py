"""The recipe: everything that the weights depend on besides the content of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from training.registry.manifest import NAME_PATTERN


class ClassifierRecipe(BaseModel):
    """One training of all classifiers of the guard."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    method: Literal["guard-classifiers"]
    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    """Under which the result is registered, as its next version."""
    data: Path | None = None
    """Folder of the openly licensed data sets; without it, only texts of our own grammar are learnt from."""
    encoder: Path | None = None
    """Folder of a sentence encoder from which the meanings of words are distilled anew, instead of taken as shipped."""
    second_look: Path | None = None
    """Folder of a sentence encoder that gateways may ask about texts in doubt: what it takes is then trained too."""
    size: Annotated[int, Field(ge=20)] = 3000
    """Texts of our own grammar for each category."""
    epochs: Annotated[int, Field(ge=1)] = 6
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    false_flags: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    """Rate of false flags on each harmless calibration source, from which the thresholds follow."""
    seed: Annotated[int, Field(ge=0)] = 0
    license: str = "Apache-2.0"
    """SPDX expression of the weights' licence."""
