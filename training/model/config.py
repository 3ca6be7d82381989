"""The shape of a model, and what a token costs in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Positions = Literal["rope", "learned", "sinusoid", "alibi", "none"]
Norm = Literal["rms", "layer"]
NormPlace = Literal["pre", "post"]
Activation = Literal["swiglu", "gelu"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Every choice that the weights depend on. The defaults are Llama's."""

    vocab_size: int
    layers: int
    width: int
    """Of the stream that every layer reads and adds to."""
    heads: int
    kv_heads: int
    """Heads of keys and values: as many as `heads`, or fewer that groups of them share (Ainslie et al. 2023)."""
    hidden: int
    """Width within an MLP."""
    context: int
    """The most tokens that the model is asked to read."""
    window: int | None = None
    """How many tokens each one looks at, itself included; None: all before it."""
    positions: Positions = "rope"
    rope_base: float = 10_000.0
    """Wavelengths go from 2 pi to nearly 2 pi times this (Su et al. 2021)."""
    norm: Norm = "rms"
    norm_place: NormPlace = "pre"
    """Before each part of a block (Xiong et al. 2020), or after it, as in the first transformers."""
    norm_epsilon: float = 1e-5
    activation: Activation = "swiglu"
    residual: bool = True
    """Whether each part of a block adds to the stream, or replaces it."""
    experts: int = 0
    """MLPs in each block among which a router chooses; 0: a single one, for every token."""
    experts_per_token: int = 2
    dropout: float = 0.0
    """Part of what each block adds that is left out at random in training."""
    tied: bool = True
    """Whether the output layer is the embedding."""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} are not a multiple of kv_heads {self.kv_heads}")
        if self.positions == "rope" and self.head_width % 2:
            raise ValueError(f"width {self.width} / heads {self.heads} is odd: rope needs an even head width")
        if self.positions == "sinusoid" and self.width % 2:
            raise ValueError(f"width {self.width} is odd: sinusoid needs an even width")
        if self.experts and not 1 <= self.experts_per_token <= self.experts:
            raise ValueError(f"experts_per_token {self.experts_per_token} is not between 1 and experts {self.experts}")
        # Mixtral has no other, and experts are saved as Mixtral's.
        if self.experts and self.activation != "swiglu":
            raise ValueError(f"experts need activation swiglu, not {self.activation}")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def num_active_weights(self) -> int:
        """Weights that one token is multiplied with: without embeddings looked up, norms, and experts not chosen."""
        # Query and output are as wide as the stream; key and value have kv_heads each.
        attention = self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads)
        # SwiGLU has a gate besides the projections up and down.
        mlp = self.width * self.hidden * (3 if self.activation == "swiglu" else 2)
        if self.experts:
            mlp = mlp * self.experts_per_token + self.width * self.experts
        return self.layers * (attention + mlp) + self.width * self.vocab_size

    def training_flops_per_token(self, block: int) -> float:
        """Forward and backward, in texts of `block` tokens: 6 for each weight, and attention's 12 L N H T.

        As PaLM counts them (Chowdhery et al. 2022, appendix B): the mask, which would save half of attention, is not
        taken off.
        """
        seen = min(block, self.window or block)
        return 6.0 * self.num_active_weights() + 12.0 * self.layers * self.width * seen
