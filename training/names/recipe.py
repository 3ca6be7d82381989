"""The recipe: everything that the tagger's weights depend on besides the release of faker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from training.registry.manifest import NAME_PATTERN


class NamesRecipe(BaseModel):
    """One training of the tagger of names and addresses."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    method: Literal["guard-names"]
    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    """Under which the result is registered, as its next version."""
    texts: Annotated[int, Field(ge=100)] = 120_000
    """How many are generated to learn from; a twentieth as many more are held out to measure by."""
    epochs: Annotated[int, Field(ge=1)] = 3
    learning_rate: Annotated[float, Field(gt=0)] = 0.03
    draws: Annotated[int, Field(ge=10)] = 300
    """Streets and towns that are drawn for each of faker's locales."""
    lean: tuple[float, float] = (0.75, 1.5)
    """Log odds by which names and addresses are preferred to nothing."""
    prose: list[Path] = []
    """More folders of Markdown in which no person is named."""
    seed: Annotated[int, Field(ge=0)] = 0
    license: str = "Apache-2.0"
    """SPDX expression of the weights' licence."""
