"""The recipe of `embed`: a model learns to give a question and what answers it similar vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.recipes.sections import FoldableAdapter, GradientRecipe, Section


class QueryData(Section):
    """Which pairs are learned from and which are held out to measure by."""

    train: Path
    """JSONL lines with `query` and `text`, and a `group` where queries belong together; paths start at the recipe."""
    heldout: Path | None = None
    """The same, never trained on; without it, a part of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Which part of `train` is held out, by groups, where `heldout` is not given."""
    max_tokens: Annotated[int, Field(ge=8)] = 256
    """Longer queries and texts are cut here, also when the model is served."""


class EmbedRecipe(GradientRecipe):
    """Vectors of texts by contrast: of all texts in a batch, a query's own is nearest (van den Oord et al. 2018)."""

    method: Literal["embed"]
    """What is done; the rest of the recipe depends on it."""
    base: str = "all-minilm-l6-v2"
    """The model to start from: the small encoder that is fetched when it is missing, or any model as in `sft`."""
    data: QueryData
    """Pairs of a query and the text that answers it."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Pairs in each step, over all processes. Each query is told apart from all texts of its batch: more teach more."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """What similarities are divided by: less looks more at the texts that are nearly right."""
    adapter: FoldableAdapter | None = None
    """What is trained in place of all weights, and then folded in."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out pairs must not be trained on")
        if self.privacy is not None:
            raise ValueError("privacy: each pair is learned beside all others of its batch: none has a gradient alone")
        if getattr(self.adapter, "dropout", 0.0):
            raise ValueError("adapter.dropout must be 0: vectors are computed twice and must be the same")
        return self
