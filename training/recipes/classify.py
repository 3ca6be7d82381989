"""The recipe of `classify`: a model learns to name what a text is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.recipes.sections import FoldableAdapter, GradientRecipe, Section


class LabelledData(Section):
    """Which texts are learned from and which are held out to measure by."""

    train: Path
    """JSONL lines with `text` and `label` (or a list `labels`), CSV, or `label TAB text`; paths start at the recipe."""
    heldout: Path | None = None
    """The same, never trained on; without it, a part of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Which part of `train` is held out, by groups: to measure by, and to choose thresholds of several labels by."""
    max_tokens: Annotated[int, Field(ge=8)] = 256
    """Longer texts are cut here."""
    allow_leaks: bool = False
    """Whether held-out texts may stand in `train` too: then the figures say little."""


class ClassifyRecipe(GradientRecipe):
    """A head on a model learns one label of each text, or any number of them."""

    method: Literal["classify"]
    """What is done; the rest of the recipe depends on it."""
    base: str = "all-minilm-l6-v2"
    """The model to start from: the small encoder that is fetched when it is missing, or any model as in `sft`."""
    data: LabelledData
    """Labelled texts."""
    layers: Annotated[int, Field(ge=1)] | None = None
    """How many of the uppermost layers learn, beside the head; by default all. What those below say of each text is
    then computed once and kept in memory (texts × tokens × width × 4 bytes): steps take a fraction of the time."""
    adapter: FoldableAdapter | None = None
    """What is trained in place of all weights, beside the head."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out texts must not be trained on")
        if self.layers is not None and self.adapter is not None:
            raise ValueError("say what learns besides the head: layers or adapter, one of the two")
        return self
