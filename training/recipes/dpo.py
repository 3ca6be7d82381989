"""The recipe of `dpo`: a chat model learns which of two answers is preferred."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.recipes.sections import AdapterSettings, GradientRecipe, Section, check_output


class PreferenceData(Section):
    """Which pairs of answers are learned from and which are held out to measure by."""

    train: Path
    """JSONL lines with `prompt` (a text) or `messages`, `chosen` and `rejected`; paths start at the recipe's folder."""
    heldout: Path | None = None
    """The same, never trained on; without it, a part of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Which part of `train` is held out, by prompts, where `heldout` is not given."""
    max_tokens: Annotated[int, Field(ge=8)] = 512
    """Longer chats are cut here; a pair with an answer that lies behind the cut is left out."""


class DpoRecipe(GradientRecipe):
    """A chat model learns which of two answers is preferred (Rafailov et al. 2023, direct preference optimization)."""

    method: Literal["dpo"]
    """What is done; the rest of the recipe depends on it."""
    base: str
    """The model to start from, which is the reference as well: NAME[@VERSION], a digest, or a folder's path."""
    data: PreferenceData
    """Pairs of answers."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """How dear it is to leave the reference: less lets the model go further from it."""
    adapter: AdapterSettings | None = None
    """What is trained in place of all weights."""
    output: Literal["merged", "adapter"] = "merged"
    """A whole model with the adapter folded in, or the adapter alone, for this base only."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out pairs must not be trained on")
        check_output(self.adapter, self.output)
        return self
