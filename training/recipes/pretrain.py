"""The recipe of `pretrain`: a language model from nothing but text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.model.config import Activation, ModelConfig, Norm, NormPlace, Positions
from training.recipes.sections import GradientRecipe, Section

# As GPT-2 and nanochat: a head for each 64 channels, and as many heads as blocks.
HEAD_WIDTH = 64


class TextData(Section):
    """Which text is learned from and which is held out to measure by."""

    train: Path
    """A text file, or JSON lines `{"text": …}`, each a document. Relative paths start at the recipe's folder."""
    heldout: Path | None = None
    """Text that is never trained on; without it, the end of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Which part of `train`, where `heldout` is not given."""
    block: Annotated[int, Field(ge=2)] = 256
    """Tokens that are read at once: the text is cut into pieces of so many."""


class ModelSettings(Section):
    """The model's shape. `depth` alone makes one; what else is set departs from it."""

    depth: Annotated[int, Field(ge=1)] = 4
    """Blocks: the dial that everything else follows."""
    width: Annotated[int, Field(ge=1)] | None = None
    """Of the stream; by default 64 for each block."""
    heads: Annotated[int, Field(ge=1)] | None = None
    """Of attention; by default one for each 64 of width. On CPUs, engines take heads 32, 64, 96, 128 or 256 wide."""
    kv_heads: Annotated[int, Field(ge=1)] | None = None
    """Heads of keys and values, shared by groups of heads; by default one for each head."""
    hidden: Annotated[int, Field(ge=1)] | None = None
    """Width within an MLP; by default so that eight times width squared of its weights are active."""
    context: Annotated[int, Field(ge=2)] | None = None
    """The most tokens that it may be served with; by default `data.block`, which it learns. More needs `window`."""
    window: Annotated[int, Field(ge=1)] | None = None
    """How many tokens each looks back at, itself included; by default all."""
    positions: Positions = "rope"
    """How it knows of order. All but `rope` are for studies: engines do not serve them."""
    rope_base: Annotated[float, Field(gt=1)] = 10_000.0
    """The longest wavelengths of `rope`, in tokens, are about six times this."""
    norm: Norm = "rms"
    """RMSNorm, or LayerNorm, for studies."""
    norm_place: NormPlace = "pre"
    """Before each part of a block, or after it, for studies."""
    activation: Activation = "swiglu"
    """Of the MLPs; `gelu` is for studies."""
    residual: bool = True
    """Whether blocks add to the stream; without, they replace it, for studies."""
    experts: Annotated[int, Field(ge=0)] = 0
    """MLPs in each block among which a router chooses for every token; 0: one for all."""
    experts_per_token: Annotated[int, Field(ge=1)] = 2
    """How many of them a token is sent to."""
    balance: Annotated[float, Field(ge=0)] = 0.01
    """How much an uneven load of the experts adds to the loss. It is that of the examples computed at once, so other
    micro-batches and numbers of processes give slightly other losses."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of what blocks add that is left out at random while training."""
    tied: bool = True
    """Whether input and output share one embedding."""

    def config(self, vocab_size: int, block: int) -> ModelConfig:
        """The whole shape; raises ValueError where its parts do not fit."""
        width = self.width or HEAD_WIDTH * self.depth
        heads = self.heads or max(1, width // HEAD_WIDTH)
        return ModelConfig(
            vocab_size=vocab_size,
            layers=self.depth,
            width=width,
            heads=heads,
            kv_heads=self.kv_heads or heads,
            hidden=self.hidden or self._hidden(width),
            context=self.context or block,
            window=self.window,
            positions=self.positions,
            rope_base=self.rope_base,
            norm=self.norm,
            norm_place=self.norm_place,
            activation=self.activation,
            residual=self.residual,
            experts=self.experts,
            experts_per_token=self.experts_per_token,
            dropout=self.dropout,
            tied=self.tied,
        )

    def _hidden(self, width: int) -> int:
        if self.activation == "gelu":
            return 4 * width
        active = 8 * width / 3 / (self.experts_per_token if self.experts else 1)
        return max(8, 8 * round(active / 8))  # kernels like multiples of 8


class PretrainRecipe(GradientRecipe):
    """A language model learns to predict the next token of texts, from random weights."""

    method: Literal["pretrain"]
    """What is done; the rest of the recipe depends on it."""
    data: TextData
    """Text."""
    tokenizer: str = "characters"
    """`characters`: one token for each that occurs; or a checkpoint NAME[@VERSION], or a folder's path, whose tokenizer
    is taken."""
    model: ModelSettings = ModelSettings()
    output: Literal["checkpoint", "figures"] = "checkpoint"
    """A checkpoint to serve, or figures alone, also of shapes that engines do not serve; nothing is registered then."""
    evaluate_every: Annotated[int, Field(ge=1)] = 250
    """Steps between two looks at the held-out text, and at what the model writes by now."""

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out text must not be trained on")
        if self.privacy is not None and self.tokenizer == "characters":
            raise ValueError("privacy: tokenizer: characters would tell which ones occur; name a model's tokenizer")
        block = self.data.block
        config = self.model.config(vocab_size=2, block=block)
        if config.context < block:
            raise ValueError(f"model.context {config.context} is less than data.block {block}, which it learns")
        if config.context > block and not (config.window and config.window <= block):
            raise ValueError(
                f"model.context {config.context} is more than data.block {block}: what it never learned it does badly. "
                f"Set model.window to {block} or less, so that it never looks further back"
            )
        return self
