"""The recipe of `shrink`: what a model learned, as a LoRA adapter of a given rank."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from training.recipes.merge import MergeData
from training.recipes.sections import Recipe


class ShrinkRecipe(Recipe):
    """Makes a LoRA adapter from two checkpoints of one shape, or from an adapter of a higher rank."""

    method: Literal["shrink"]
    """The method, which determines the other settings."""
    model: str
    """The trained model or LoRA adapter: NAME[@VERSION], a digest, or a folder's path."""
    base: str | None = None
    """Model that a whole model was trained from; default: the base in its manifest. An adapter names its own."""
    rank: Annotated[int, Field(ge=1)] = 8
    """Rank of the new adapter."""
    data: MergeData = MergeData()
    """Data to measure on."""
