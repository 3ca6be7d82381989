"""A decoder-only transformer, to be read top to bottom: ids become vectors, blocks add to them, vectors become logits.

Tensors are named with their shapes:
    B sequences    L positions    D width of the stream    F width within an MLP    V vocabulary
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import silu

from training.model.attention import Attention, Positions, sinusoid
from training.model.cache import Cache
from training.model.config import ModelConfig
from training.model.experts import Experts, Routing

# GPT-2's: small against the norm's scale, so that training starts near the uniform distribution.
INITIAL_STD = 0.02


class Decoder(nn.Module):
    """Logits of the next token at every position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        # With the norm after each part, the last block already ends in one.
        self.norm = make_norm(config) if config.norm_place == "pre" else nn.Identity()
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embedding.tokens.weight
        initialize(self, config)

    def forward(self, ids_BL: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        """With a cache, `ids_BL` go on from the tokens that it has."""
        return self.head(self.hidden(ids_BL, cache))

    def hidden(self, ids_BL: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        """What the output layer reads, (B, L, D)."""
        at_L = keys_at_M = torch.arange(ids_BL.shape[1], device=ids_BL.device)
        if cache is not None:
            at_L, keys_at_M = cache.advance(ids_BL.shape[1], ids_BL.device)
        positions = Positions(self.config, at_L, keys_at_M)
        x_BLD = self.embedding(ids_BL, at_L)
        for block in self.blocks:
            x_BLD = block(x_BLD, positions, cache)
        return self.norm(x_BLD)

    def routings(self) -> list[Routing]:
        """Where the last pass sent its tokens, block by block; none without experts."""
        return [module.routing for module in self.modules() if isinstance(module, Experts) and module.routing]


class Embedding(nn.Module):
    """A vector for each token, and for its position where the model has such vectors."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.places = nn.Embedding(config.context, config.width) if config.positions == "learned" else None
        self.has_sinusoid = config.positions == "sinusoid"

    def forward(self, ids_BL: torch.Tensor, at_L: torch.Tensor) -> torch.Tensor:
        x_BLD = self.tokens(ids_BL)
        # Rotation and ALiBi act inside attention: they add nothing here.
        if self.places is not None:
            return x_BLD + self.places(at_L)
        if self.has_sinusoid:
            # Scaled to the size of the tokens' vectors, which would otherwise be lost beside these.
            return x_BLD + sinusoid(at_L, x_BLD.shape[-1]).to(x_BLD.dtype) * INITIAL_STD
        return x_BLD


class Block(nn.Module):
    """Attention looks around, then an MLP works on what each position has; each adds to the stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.mlp_norm = make_norm(config)
        self.mlp: nn.Module = Experts(config, SwiGLU) if config.experts else make_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BLD: torch.Tensor, positions: Positions, cache: Cache | None = None) -> torch.Tensor:
        if self.config.norm_place == "pre":
            x_BLD = self.join(x_BLD, self.attention(self.attention_norm(x_BLD), positions, cache))
            return self.join(x_BLD, self.mlp(self.mlp_norm(x_BLD)))
        x_BLD = self.attention_norm(self.join(x_BLD, self.attention(x_BLD, positions, cache)))
        return self.mlp_norm(self.join(x_BLD, self.mlp(x_BLD)))

    def join(self, x_BLD: torch.Tensor, change_BLD: torch.Tensor) -> torch.Tensor:
        """The stream with what a part of the block has to say."""
        change_BLD = self.dropout(change_BLD)
        return x_BLD + change_BLD if self.config.residual else change_BLD


class SwiGLU(nn.Module):
    """An MLP one of whose projections opens and closes the other (Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.hidden, bias=False)
        self.up = nn.Linear(config.width, config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x_BLD: torch.Tensor) -> torch.Tensor:
        return self.down(silu(self.gate(x_BLD)) * self.up(x_BLD))


class GeluMLP(nn.Module):
    """The plain MLP of GPT-2, without biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.hidden, bias=False)
        self.activation = nn.GELU()
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x_BLD: torch.Tensor) -> torch.Tensor:
        return self.down(self.activation(self.up(x_BLD)))


def make_norm(config: ModelConfig) -> nn.Module:
    """RMSNorm (Zhang and Sennrich 2019) is LayerNorm that leaves the mean where it is and has no bias."""
    kind = nn.RMSNorm if config.norm == "rms" else nn.LayerNorm
    return kind(config.width, eps=config.norm_epsilon)


def make_mlp(config: ModelConfig) -> nn.Module:
    return SwiGLU(config) if config.activation == "swiglu" else GeluMLP(config)


def initialize(model: nn.Module, config: ModelConfig) -> None:
    """Small normal weights; what writes to the stream starts smaller, as so many of them add up (GPT-2)."""
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue  # norms start as one and zero
        writes = name.endswith(("attention.output.weight", "down.weight"))
        nn.init.normal_(parameter, std=INITIAL_STD / math.sqrt(2 * config.layers) if writes else INITIAL_STD)
