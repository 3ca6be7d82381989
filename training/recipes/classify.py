"""The recipe of `classify`: a model learns to name what a text is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.recipes.sections import FoldableAdapter, GradientRecipe, Section


class LabelledData(Section):
    """Texts to train on, and held-out texts to measure on."""

    train: Path
    """JSONL with `text` and `label` (or a list `labels`), CSV, or `label TAB text`; a file or a folder.
    Relative to the recipe."""
    heldout: Path | None = None
    """The same, never trained on. By default, part of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of `train`, split by groups, to hold out. Another such part chooses the thresholds of several labels."""
    max_tokens: Annotated[int, Field(ge=8)] = 256
    """Texts are truncated to this many tokens."""
    allow_leaks: bool = False
    """Allow held-out texts in `train`. The figures then say little."""


class ClassifyRecipe(GradientRecipe):
    """A classification head on a model learns to give each text one label, or several."""

    method: Literal["classify"]
    """The method, which determines the other settings."""
    base: str = "all-minilm-l6-v2"
    """Model to start from, as in `sft`. The default is a small encoder, which is fetched if it is missing."""
    data: LabelledData
    """Labelled texts."""
    depth: Annotated[int, Field(ge=1)] | None = None
    """Keeps this many of the base's lowest layers; default: all. Fewer are faster and often enough."""
    pooling: Literal["first", "mean"] = "first"
    """What the head reads. `first`: the first token's state. `mean`: the mean of all tokens' states, for BERT-like
    encoders; it takes one more layer."""
    head: Literal["learned", "fitted", "generative"] = "learned"
    """`fitted` fits the head as a regularized linear model of the base's outputs, and chooses its penalty by
    cross-validation. Without `steps` or `epochs` nothing else is trained; with them, training continues from there.
    `generative` adds no head: a chat model learns to answer with the label, for comparison."""
    lexical: bool = False
    """Has the fitted head read the tokens of a text too, weighted by TF-IDF, for BERT-like encoders. Signet's
    evaluation and engine load such a model; other software refuses it."""
    layers: Annotated[int, Field(ge=1)] | None = None
    """Trains only this many of the top layers, besides the head; default: all. The outputs of the layers below are
    computed once and kept in memory (texts × tokens × width × 4 bytes), so steps take a fraction of the time."""
    adapter: FoldableAdapter | None = None
    """Trains an adapter and the head instead of all weights."""

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        num_lengths = (self.steps is not None) + (self.epochs is not None)
        if num_lengths == 2 or (num_lengths == 0 and self.head != "fitted"):
            raise ValueError("say how long to train: steps or epochs, one of the two")
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out texts must not be trained on")
        if self.layers is not None and self.adapter is not None:
            raise ValueError("set layers or adapter, not both")
        if self.layers is not None and self.sharding == "full":
            raise ValueError("sharding: with layers it must be none, as states of the lower layers are kept whole")
        if self.head == "fitted" and self.privacy is not None:
            raise ValueError("privacy: a fitted head is found without noise; set head to learned")
        if self.head == "generative":
            self._check_generative()
        if self.lexical and (self.head == "learned" or self.steps is not None or self.epochs is not None):
            raise ValueError("lexical: what tokens say is fitted: set head to fitted, without steps or epochs")
        return self

    def _check_generative(self) -> None:
        if "base" not in self.model_fields_set:
            raise ValueError("head: generative needs a chat model, which answers: name it in base")
        for name in ("depth", "pooling", "lexical", "layers"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: is of models with a classification head: leave it out, or the head")

    def num_steps(self, num_examples: int) -> int:
        """Optimizer steps; 0 where the head alone is fitted."""
        if self.steps is None and self.epochs is None:
            return 0
        return super().num_steps(num_examples)
