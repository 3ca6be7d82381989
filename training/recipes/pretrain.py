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
    """Text to train on, and held-out text to measure on."""

    train: Path
    """A text file, JSON lines `{"text": …}`, each a document, or a folder of either. Paths are relative to the recipe's
    folder."""
    heldout: Path | None = None
    """Text never trained on. By default, the end of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of `train` to hold out if `heldout` is not set."""
    block: Annotated[int, Field(ge=2)] = 256
    """Length of the blocks that the text is cut into, in tokens."""


class ModelSettings(Section):
    """The model's shape. `depth` determines all of it; other settings override parts."""

    depth: Annotated[int, Field(ge=1)] = 4
    """Number of blocks, which determines the rest of the shape."""
    width: Annotated[int, Field(ge=1)] | None = None
    """Width of the residual stream; default: 64 × `depth`."""
    heads: Annotated[int, Field(ge=1)] | None = None
    """Attention heads; default: `width` ÷ 64. On CPUs, engines need heads 32, 64, 96, 128 or 256 wide."""
    kv_heads: Annotated[int, Field(ge=1)] | None = None
    """Heads of keys and values, each shared by a group of attention heads; default: `heads`."""
    hidden: Annotated[int, Field(ge=1)] | None = None
    """Width within an MLP; the default gives it 8 × `width`² active weights."""
    context: Annotated[int, Field(ge=2)] | None = None
    """Longest context when served; default: `data.block`, which it is trained on. A longer one needs `window`."""
    window: Annotated[int, Field(ge=1)] | None = None
    """Tokens that each token attends to, itself included; default: all."""
    positions: Positions = "rope"
    """Position encoding. All but `rope` are for studies: engines do not serve them."""
    rope_base: Annotated[float, Field(gt=1)] = 10_000.0
    """Base of `rope`. Its longest wavelength is about six times this, in tokens."""
    norm: Norm = "rms"
    """RMSNorm, or LayerNorm for studies."""
    norm_place: NormPlace = "pre"
    """Norm before each part of a block, or after it for studies."""
    activation: Activation = "swiglu"
    """Activation of the MLPs; `gelu` is for studies."""
    residual: bool = True
    """Blocks add to the stream. Without this, for studies, they replace it."""
    experts: Annotated[int, Field(ge=0)] = 0
    """MLPs in each block, from which a router chooses for each token. 0: a single MLP without a router."""
    experts_per_token: Annotated[int, Field(ge=1)] = 2
    """Experts that each token is sent to."""
    balance: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the load-balancing loss. It is computed per micro-batch, so the micro-batch size and the number of
    processes change the loss slightly."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of each block's output dropped at random in training."""
    tied: bool = True
    """Input and output share one embedding."""

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
    """The method, which determines the other settings."""
    data: TextData
    """Text."""
    tokenizer: str = "characters"
    """`characters` makes a token of each character that occurs. Or the tokenizer of a checkpoint NAME[@VERSION] or of a
    folder."""
    model: ModelSettings = ModelSettings()
    output: Literal["checkpoint", "figures"] = "checkpoint"
    """`checkpoint` registers a model to serve. `figures` only measures, and takes shapes that engines do not serve."""
    evaluate_every: Annotated[int, Field(ge=1)] = 250
    """Steps between measurements on held-out text, each with a sample of the model's output."""

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out text must not be trained on")
        if self.privacy is not None and self.tokenizer == "characters":
            raise ValueError("privacy: tokenizer: characters would reveal which ones occur; name a model's tokenizer")
        block = self.data.block
        config = self.model.config(vocab_size=2, block=block)
        if config.context < block:
            raise ValueError(f"model.context {config.context} is less than data.block {block}, which it is trained on")
        if config.context > block and not (config.window and config.window <= block):
            raise ValueError(
                f"model.context {config.context} is more than data.block {block}: beyond it, the model would do badly. "
                f"Set model.window to {block} or less, so that it never attends further back"
            )
        return self
