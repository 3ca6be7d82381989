"""The recipe of `embed`: a model learns to give a question and what answers it similar vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.recipes.sections import FoldableAdapter, GradientRecipe, Section


class QueryData(Section):
    """Pairs to train on, and held-out pairs to measure on."""

    train: Path
    """JSONL: `query`, `text`, and `group` for queries that belong together; a file or a folder. Paths are relative to
    the recipe."""
    heldout: Path | None = None
    """The same, never trained on. By default, part of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of `train`, split by groups, to hold out if `heldout` is not set."""
    max_tokens: Annotated[int, Field(ge=8)] = 256
    """Queries and texts are truncated to this many tokens, also when the model is served."""


class EmbedRecipe(GradientRecipe):
    """A model learns text vectors by contrast: a query's own text is nearest to it (van den Oord et al. 2018)."""

    method: Literal["embed"]
    """The method, which determines the other settings."""
    base: str = "all-minilm-l6-v2"
    """Model to start from, as in `sft`. The default is a small encoder, which is fetched if it is missing."""
    data: QueryData
    """Pairs of a query and a text that answers it."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Pairs per step, across all processes. Each query is compared with all texts of its batch: more teach more."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """Similarities are divided by it. A lower value puts more weight on texts that are nearly right."""
    adapter: FoldableAdapter | None = None
    """Trains an adapter instead of all weights, and merges it afterwards."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out pairs must not be trained on")
        if self.privacy is not None:
            raise ValueError("privacy: a pair's loss depends on its whole batch, so it has no gradient of its own")
        if getattr(self.adapter, "dropout", 0.0):
            raise ValueError("adapter.dropout must be 0: vectors are computed twice and must be the same")
        return self
