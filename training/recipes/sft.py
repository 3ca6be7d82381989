"""The recipe of `sft`: a supervised fine-tuning of a chat model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from training.recipes.sections import AdapterSettings, ChatData, GradientRecipe, check_output


class SftRecipe(GradientRecipe):
    """A chat model learns what the assistant says in chats."""

    method: Literal["sft"]
    """What is done; the rest of the recipe depends on it."""
    base: str
    """The model to start from: NAME[@VERSION] in the registry, a digest, or a folder's path."""
    data: ChatData
    """Chats."""
    adapter: AdapterSettings | None = None
    """What is trained in place of all weights."""
    output: Literal["merged", "adapter"] = "merged"
    """A whole model with the adapter folded in, or the adapter alone, for this base only."""
    sharding: Literal["none", "full"] = "none"
    """`full`: each of the processes holds a share of weights, gradients and optimizer state, not all (FSDP)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out chats must not be trained on")
        check_output(self.adapter, self.output)
        if self.sharding == "full" and (self.privacy is not None or self.precision == "fp16"):
            raise ValueError("sharding: goes with precision fp32 or bf16, and without privacy")
        return self
