"""The recipe of `shrink`: what a model learned, as a LoRA adapter of a given rank."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from training.recipes.merge import MergeData
from training.recipes.sections import Recipe


class ShrinkRecipe(Recipe):
    """A LoRA adapter out of two checkpoints of one shape, or out of an adapter of a higher rank."""

    method: Literal["shrink"]
    """What is done; the rest of the recipe depends on it."""
    model: str
    """What was trained: a whole model, or a LoRA adapter. NAME[@VERSION], a digest, or a folder's path."""
    base: str | None = None
    """What a whole model was trained from, by default the base that its manifest names; an adapter knows its own."""
    rank: Annotated[int, Field(ge=1)] = 8
    """Of the adapter that is made."""
    data: MergeData = MergeData()
    """To measure by."""
