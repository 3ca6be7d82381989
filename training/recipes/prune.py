"""The recipe of `prune`: parts of a model are taken out, and what is left may recover."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.recipes.distill import DistillData
from training.recipes.sections import FoldableAdapter, GradientRecipe, Section

_Count = Annotated[int, Field(ge=0)]


class PruneSettings(Section):
    """Parts to remove. The result is a smaller model of the same architecture, which engines serve faster."""

    layers: _Count | Annotated[list[_Count], Field(min_length=1)] = 0
    """Number of layers to remove, or a list of those to remove, counted from 0."""
    layers_by: Literal["influence", "loss"] = "influence"
    """How to choose a number of layers. `influence` removes all at once those whose output is most like their input
    (Men et al. 2024, ShortGPT). `loss` removes one after another the layer that costs least loss: slower, better."""
    hidden: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of the channels of every MLP to remove, the least important first."""
    heads: Annotated[int, Field(ge=0)] = 0
    """Groups of attention heads (which share keys and values) to remove from every layer, least important first."""
    vocabulary: Annotated[int, Field(ge=1)] | None = None
    """Number of tokens to keep, those that encode `data.train` in the fewest, control tokens and single bytes among
    them. For byte-level BPE; a multiple of 64 suits kernels."""
    vocabulary_text: Path | None = None
    """More text to choose tokens by, plain or chats, as broad as what the model will read. It is not trained on."""

    @property
    def is_of_parts(self) -> bool:
        """Whether parts of layers go, or whole ones."""
        return bool(self.layers or self.hidden or self.heads)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.is_of_parts or self.vocabulary):
            raise ValueError("say what to remove: layers, hidden or heads, or how many tokens to keep, vocabulary")
        if self.vocabulary_text is not None and self.vocabulary is None:
            raise ValueError("vocabulary_text chooses tokens: say how many to keep, vocabulary")
        return self


class PruneRecipe(GradientRecipe):
    """Removes the least important layers, channels, heads or tokens of a model, which learns from its old self."""

    method: Literal["prune"]
    """The method, which determines the other settings."""
    base: str
    """Llama-shaped model to prune: NAME[@VERSION] in the registry, a digest, or a folder's path."""
    prune: PruneSettings
    """Parts to remove."""
    data: DistillData
    """Chats or plain text, to measure importance on and to recover on."""
    samples: Annotated[int, Field(ge=1)] = 32
    """Examples of `data.train` to measure importance on."""
    steps: Annotated[int, Field(ge=0)] | None = None
    """Optimizer steps of recovery. Without `steps` and `epochs` there is no recovery."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the cross-entropy on the data in recovery; the rest of the loss is the divergence from the original
    model. 1 is plain fine-tuning."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Above 1, more is learned from what the original model considers unlikely."""
    adapter: FoldableAdapter | None = None
    """Trains an adapter instead of all remaining weights, and merges it afterwards."""

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("set steps or epochs, not both")
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: what is held out must not be trained on")
        if self.prune.vocabulary_text is not None and self.data.heldout == self.prune.vocabulary_text:
            raise ValueError("prune.vocabulary_text is data.heldout: tokens must not be chosen by what is measured on")
        if self.privacy is not None:
            raise ValueError("privacy: the parts to remove are chosen by the examples, without noise; leave it out")
        return self

    def num_steps(self, num_examples: int) -> int:
        """Optimizer steps of recovery; 0 for none."""
        if self.steps is None and self.epochs is None:
            return 0
        return super().num_steps(num_examples)
