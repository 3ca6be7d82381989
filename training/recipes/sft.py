"""The recipe of `sft`: a language model is trained on, on chats or on plain text."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from training.recipes.sections import AdapterSettings, ChatData, GradientRecipe, check_output


class SftRecipe(GradientRecipe):
    """A language model learns what the assistant says in chats, or a field's plain text."""

    method: Literal["sft"]
    """The method, which determines the other settings."""
    base: str
    """The model to start from: NAME[@VERSION] in the registry, a digest, or a folder's path."""
    data: ChatData
    """Chats, of which the assistant's messages are learned, or plain text, of which every token is."""
    adapter: AdapterSettings | None = None
    """Trains an adapter instead of all weights."""
    output: Literal["merged", "adapter"] = "merged"
    """`merged`: a whole model that includes the adapter. `adapter`: only the adapter, for use with this base."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out chats must not be trained on")
        check_output(self.adapter, self.output)
        return self
