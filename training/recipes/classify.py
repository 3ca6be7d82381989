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
    depth: Annotated[int, Field(ge=1)] | None = None
    """How many of the base's layers are kept, the lowest; by default all. Fewer answer sooner, and are often enough."""
    pooling: Literal["first", "mean"] = "first"
    """What the head reads of a text. `mean`: the mean of its tokens' states, by one more layer, in encoders of BERT's
    kind, whose heads else read the first token."""
    head: Literal["learned", "fitted"] = "learned"
    """`fitted`: the head is found at once, as logistic regression on what the model says of the texts, regularized by
    cross-validation. Without `steps` or `epochs` that is all; with them, training goes on from there."""
    layers: Annotated[int, Field(ge=1)] | None = None
    """How many of the uppermost layers learn, beside the head; by default all. What those below say of each text is
    then computed once and kept in memory (texts × tokens × width × 4 bytes): steps take a fraction of the time."""
    adapter: FoldableAdapter | None = None
    """What is trained in place of all weights, beside the head."""

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        given = (self.steps is not None) + (self.epochs is not None)
        if given == 2 or (given == 0 and self.head == "learned"):
            raise ValueError("say how long to train: steps or epochs, one of the two")
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out texts must not be trained on")
        if self.layers is not None and self.adapter is not None:
            raise ValueError("say what learns besides the head: layers or adapter, one of the two")
        if self.head == "fitted" and self.privacy is not None:
            raise ValueError("privacy: a fitted head is found without noise; set head to learned")
        return self

    def num_steps(self, num_examples: int) -> int:
        """Optimizer steps; 0 where the head alone is fitted."""
        if self.steps is None and self.epochs is None:
            return 0
        return super().num_steps(num_examples)
