"""The recipe of a fine-tuning: everything that the run depends on besides its data and its base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from training.registry.manifest import NAME_PATTERN


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class DataSettings(_Settings):
    """Which chats are learned from and which are held out to measure by."""

    train: Path
    """JSONL chats. Relative paths start at the recipe's folder."""
    heldout: Path | None = None
    """JSONL chats that are never trained on; without it, a part of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Which part of `train`, where `heldout` is not given."""
    max_tokens: Annotated[int, Field(ge=8)] = 512
    """Longer chats are cut here."""


class LoraSettings(_Settings):
    """Low-rank adapters (Hu et al. 2021): what is trained, the base stays as it is."""

    rank: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16
    """The adapter's output is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Names of the modules that get an adapter."""


class OptimizerSettings(_Settings):
    """AdamW, with a linear warm-up and a cosine decay to zero."""

    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients whose norm is larger are scaled down to it."""


class SftRecipe(_Settings):
    """A supervised fine-tuning of a chat model with LoRA."""

    method: Literal["lora-sft"]
    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    """Under which the result is registered, as its next version."""
    base: str
    """The model to start from: NAME[@VERSION] in the registry, a digest, or a folder's path."""
    data: DataSettings
    steps: Annotated[int, Field(ge=1)]
    """Optimizer steps."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Chats in each step, over all processes."""
    micro_batch_size: Annotated[int, Field(ge=1)] = 8
    """Chats that one process computes at once: lower it when memory runs out, the result stays."""
    lora: LoraSettings = LoraSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    output: Literal["merged", "adapter"] = "merged"
    """A whole model with the adapter folded in, or the adapter alone, for this base only."""
    seed: Annotated[int, Field(ge=0)] = 0
    license: str | None = None
    """SPDX expression of the result's licence; by default the base's."""

    @model_validator(mode="after")
    def _check_heldout(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out chats must not be trained on")
        return self
