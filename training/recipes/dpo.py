"""The recipe of `dpo`: a chat model learns which of two answers is preferred."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.recipes.sections import AdapterSettings, GradientRecipe, Section, check_output


class PreferenceData(Section):
    """Pairs of answers to train on, and held-out pairs to measure on."""

    train: Path
    """JSONL: `prompt` (a text) or `messages`, `chosen`, `rejected`; a file or a folder. Paths are relative to the
    recipe's folder."""
    heldout: Path | None = None
    """The same, never trained on. By default, part of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of `train`, split by prompts, to hold out if `heldout` is not set."""
    max_tokens: Annotated[int, Field(ge=8)] = 512
    """Chats are truncated to this many tokens. Pairs with an answer beyond this are left out."""


class DpoRecipe(GradientRecipe):
    """A chat model learns which of two answers is preferred (Rafailov et al. 2023, direct preference optimization)."""

    method: Literal["dpo"]
    """The method, which determines the other settings."""
    base: str
    """Model to start from, and the reference: NAME[@VERSION], a digest, or a folder's path."""
    data: PreferenceData
    """Pairs of answers."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Penalty for moving away from the reference. A lower value lets the model move further."""
    adapter: AdapterSettings | None = None
    """Trains an adapter instead of all weights."""
    output: Literal["merged", "adapter"] = "merged"
    """`merged`: a whole model that includes the adapter. `adapter`: only the adapter, for use with this base."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out pairs must not be trained on")
        check_output(self.adapter, self.output)
        return self
