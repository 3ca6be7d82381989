"""The recipe of `prune`: parts of a model are taken out, and what is left may recover."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.recipes.distill import DistillData
from training.recipes.sections import FoldableAdapter, GradientRecipe, Section


class PruneSettings(Section):
    """What is taken out. Engines serve what is left faster, as a smaller model of the same architecture."""

    layers: Annotated[int, Field(ge=0)] = 0
    """How many layers go."""
    layers_by: Literal["influence", "loss"] = "influence"
    """Which: those whose output is most like their input (Men et al. 2024, ShortGPT), all at once; or, one after
    another, the one without which the text is predicted best, which costs more and leaves a better model."""
    hidden: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the channels of every MLP that goes: those that say least."""
    heads: Annotated[int, Field(ge=0)] = 0
    """How many groups of attention heads, which share keys and values, go from every layer: those that say least."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.layers or self.hidden or self.heads):
            raise ValueError("say what is taken out: layers, hidden or heads")
        return self


class PruneRecipe(GradientRecipe):
    """A model loses the layers, MLP channels or heads that say least, and recovers by learning from its old self."""

    method: Literal["prune"]
    """What is done; the rest of the recipe depends on it."""
    base: str
    """The model to prune, Llama-shaped: NAME[@VERSION] in the registry, a digest, or a folder's path."""
    prune: PruneSettings
    """What is taken out."""
    data: DistillData
    """Chats or plain text: importance is measured on it, and what is left learns on it."""
    samples: Annotated[int, Field(ge=1)] = 32
    """Examples of `data.train` that importance is measured on."""
    steps: Annotated[int, Field(ge=0)] | None = None
    """Optimizer steps of recovery; without them or `epochs`, none."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """In recovery, the share of the data's own cross-entropy in the loss; the rest is the divergence from the model
    as it was. At 1 it is a plain fine-tuning."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Above 1 more is learned of what the model as it was holds unlikely."""
    adapter: FoldableAdapter | None = None
    """What is trained in place of all weights that are left."""

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("say how long to recover: steps or epochs, one of the two")
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: what is held out must not be trained on")
        if self.privacy is not None:
            raise ValueError("privacy: what is taken out is chosen by the examples, without noise; leave privacy out")
        return self

    def num_steps(self, num_examples: int) -> int:
        """Optimizer steps of recovery; 0 for none."""
        if self.steps is None and self.epochs is None:
            return 0
        return super().num_steps(num_examples)
