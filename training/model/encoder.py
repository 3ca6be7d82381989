"""An encoder, which reads a whole text in both directions, and an encoder-decoder, which writes another from it.

Both are made of the decoder's blocks: an encoder leaves out the causal mask, and an encoder-decoder's blocks also ask
what was read.

Tensors are named with their shapes: B sequences, L positions, M positions of the text read, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from training.model.attention import Attention, Positions
from training.model.config import ModelConfig
from training.model.decoder import Block, Embedding, initialize, make_norm


class Encoder(nn.Module):
    """A vector for every token that knows of the tokens on both sides (Devlin et al. 2019)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = make_norm(config) if config.norm_place == "pre" else nn.Identity()
        initialize(self, config)

    def forward(self, ids_BL: torch.Tensor, is_padding_BL: torch.Tensor | None = None) -> torch.Tensor:
        """Padding, on the right, is not looked at; its own vectors mean nothing."""
        at_L = torch.arange(ids_BL.shape[1], device=ids_BL.device)
        positions = Positions(self.config, at_L, at_L, is_causal=False, is_padding_BM=is_padding_BL)
        x_BLD = self.embedding(ids_BL, at_L)
        for block in self.blocks:
            x_BLD = block(x_BLD, positions)
        return self.norm(x_BLD)


class CrossAttentionBlock(Block):
    """A decoder's block with cross-attention to the encoder's output between self-attention and MLP."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.memory_norm = make_norm(config)
        self.memory_attention = Attention(config, layer)

    def forward(  # type: ignore[override]
        self, x_BLD: torch.Tensor, positions: Positions, memory_BMD: torch.Tensor, memory_positions: Positions
    ) -> torch.Tensor:
        if self.config.norm_place == "pre":
            x_BLD = self.join(x_BLD, self.attention(self.attention_norm(x_BLD), positions))
            cross_BLD = self.memory_attention(self.memory_norm(x_BLD), memory_positions, memory_BMD=memory_BMD)
            x_BLD = self.join(x_BLD, cross_BLD)
            return self.join(x_BLD, self.mlp(self.mlp_norm(x_BLD)))
        x_BLD = self.attention_norm(self.join(x_BLD, self.attention(x_BLD, positions)))
        cross_BLD = self.memory_attention(x_BLD, memory_positions, memory_BMD=memory_BMD)
        x_BLD = self.memory_norm(self.join(x_BLD, cross_BLD))
        return self.mlp_norm(self.join(x_BLD, self.mlp(x_BLD)))


class EncoderDecoder(nn.Module):
    """Logits of the next token of a text that is written from another, as in translation (Vaswani et al. 2017)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.embedding = Embedding(config)
        self.blocks = nn.ModuleList(CrossAttentionBlock(config, layer) for layer in range(config.layers))
        self.norm = make_norm(config) if config.norm_place == "pre" else nn.Identity()
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        # Tied to the embedding of what is written; the text that is read has its own.
        if config.tied:
            self.head.weight = self.embedding.tokens.weight
        initialize(self, config)

    def forward(
        self, read_BM: torch.Tensor, written_BL: torch.Tensor, is_padding_BM: torch.Tensor | None = None
    ) -> torch.Tensor:
        memory_BMD = self.encoder(read_BM, is_padding_BM)
        at_L, at_M = (torch.arange(ids.shape[1], device=ids.device) for ids in (written_BL, read_BM))
        positions = Positions(self.config, at_L, at_L)
        # Places in one text say nothing of places in the other: what is asked is found by what it says.
        elsewhere = replace(self.config, positions="none", window=None)
        memory_positions = Positions(elsewhere, at_L, at_M, is_causal=False, is_padding_BM=is_padding_BM)
        x_BLD = self.embedding(written_BL, at_L)
        for block in self.blocks:
            x_BLD = block(x_BLD, positions, memory_BMD, memory_positions)
        return self.head(self.norm(x_BLD))
