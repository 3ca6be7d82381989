"""Attention: each position's query is compared with all keys up to it, and their values are mixed by the scores.

Tensors are named with their shapes:
    B sequences      L positions that ask       D width of the stream      N heads       H width of a head
                     M positions that answer                               K heads of keys and values
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from training.model.cache import Cache
from training.model.config import ModelConfig


def attend(
    q_BLNH: torch.Tensor, k_BMKH: torch.Tensor, v_BMKH: torch.Tensor, bias_BNLM: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(q k / sqrt(H) + bias) v, written out; returns it and the softmax, whose rows sum to one.

    `scaled_dot_product_attention` computes the same without holding the softmax in memory.
    """
    groups = q_BLNH.shape[2] // k_BMKH.shape[2]
    # Adjacent heads share keys and values, as in Llama's weights: repeat_interleave, not repeat.
    k_BMNH, v_BMNH = (heads.repeat_interleave(groups, dim=2) for heads in (k_BMKH, v_BMKH))
    scores_BNLM = torch.einsum("blnh,bmnh->bnlm", q_BLNH, k_BMNH) / math.sqrt(q_BLNH.shape[-1])
    weights_BNLM = (scores_BNLM + bias_BNLM).softmax(dim=-1)
    return torch.einsum("bnlm,bmnh->blnh", weights_BNLM, v_BMNH), weights_BNLM


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017), whose heads may share keys and values in groups."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.layer = layer
        per_kv_head = config.kv_heads * config.head_width
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key = nn.Linear(config.width, per_kv_head, bias=False)
        self.value = nn.Linear(config.width, per_kv_head, bias=False)
        self.output = nn.Linear(config.width, config.width, bias=False)
        self.is_watched = False
        """Whether to keep `weights_BNLM` of the last pass, for pictures and studies."""
        self.weights_BNLM: torch.Tensor | None = None

    def forward(
        self,
        x_BLD: torch.Tensor,
        positions: Positions,
        cache: Cache | None = None,
        memory_BMD: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`memory_BMD`: the encoder's output, for cross-attention; without it queries attend to the stream itself."""
        source_BMD = x_BLD if memory_BMD is None else memory_BMD
        q_BLNH = self.query(x_BLD).unflatten(-1, (-1, self.config.head_width))
        k_BMKH = self.key(source_BMD).unflatten(-1, (-1, self.config.head_width))
        v_BMKH = self.value(source_BMD).unflatten(-1, (-1, self.config.head_width))
        if positions.rotation_2LH is not None:
            q_BLNH, k_BMKH = rotate(q_BLNH, positions.rotation_2LH), rotate(k_BMKH, positions.rotation_2LH)
        if cache is not None:
            k_BMKH, v_BMKH = cache.append(self.layer, k_BMKH, v_BMKH)
        return self.output(self._mix(q_BLNH, k_BMKH, v_BMKH, positions).flatten(-2))

    def _mix(
        self, q_BLNH: torch.Tensor, k_BMKH: torch.Tensor, v_BMKH: torch.Tensor, positions: Positions
    ) -> torch.Tensor:
        if self.is_watched:
            # The fused kernels do not return the softmax, so a layer that is watched takes the slow path.
            mixed_BLNH, self.weights_BNLM = attend(q_BLNH, k_BMKH, v_BMKH, positions.bias(q_BLNH))
            return mixed_BLNH
        mixed_BNLH = scaled_dot_product_attention(
            q_BLNH.transpose(1, 2),
            k_BMKH.transpose(1, 2),
            v_BMKH.transpose(1, 2),
            attn_mask=None if positions.is_plain else positions.bias(q_BLNH),
            is_causal=positions.is_plain,
            enable_gqa=self.config.kv_heads < self.config.heads,
        )
        return mixed_BNLH.transpose(1, 2)


class Positions:
    """The positions of one pass' queries and keys, and what follows for every layer: rotations and the mask."""

    def __init__(
        self,
        config: ModelConfig,
        at_L: torch.Tensor,
        keys_at_M: torch.Tensor,
        *,
        is_causal: bool = True,
        is_padding_BM: torch.Tensor | None = None,
    ) -> None:
        self.rotation_2LH = rotation(at_L, config) if config.positions == "rope" else None
        has_window = config.window is not None and len(keys_at_M) > config.window
        self.is_plain = (
            # PyTorch aligns its causal mask at the top left, which is right only where no earlier keys are kept.
            is_causal and at_L is keys_at_M and config.positions != "alibi" and not has_window and is_padding_BM is None
        )
        """Whether the usual causal mask is all, which kernels have built in."""
        self._config = config
        self._distance_LM = at_L[:, None] - keys_at_M[None, :]
        self._is_causal = is_causal
        self._is_padding_BM = is_padding_BM
        self._bias: torch.Tensor | None = None

    def bias(self, like: torch.Tensor) -> torch.Tensor:
        """What is added to the scores, broadcast to (B, N, L, M): 0, a penalty for distance, or minus infinity."""
        if self._bias is None:
            # The same for every layer of a pass, so it is computed once.
            bias_BNLM = self._penalty(like).masked_fill(self._is_hidden(), -math.inf)
            self._bias = bias_BNLM.to(like.dtype)
        return self._bias

    def _penalty(self, like: torch.Tensor) -> torch.Tensor:
        distance_LM = self._distance_LM.abs().float()
        if self._config.positions != "alibi":
            return torch.zeros_like(distance_LM)[None, None]
        return -alibi_slopes(self._config.heads).to(like.device)[None, :, None, None] * distance_LM

    def _is_hidden(self) -> torch.Tensor:
        is_hidden_LM = torch.zeros_like(self._distance_LM, dtype=torch.bool)
        if self._is_causal:
            is_hidden_LM |= self._distance_LM < 0
        if self._config.window is not None:
            # The token itself counts: a window of 1 sees nothing else.
            is_hidden_LM |= self._distance_LM >= self._config.window
        if self._is_padding_BM is None:
            return is_hidden_LM[None, None]
        return is_hidden_LM[None, None] | self._is_padding_BM[:, None, None, :]


def rotation(at_L: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """Cosines and sines of the angles by which position turns each pair of a head's channels (Su et al. 2021)."""
    # In fp32: bfloat16 cannot tell positions above 256 apart.
    pairs = torch.arange(0, config.head_width, 2, device=at_L.device).float()
    frequencies = config.rope_base ** (-pairs / config.head_width)
    angles_LH = torch.outer(at_L.float(), frequencies).repeat(1, 2)
    return torch.stack((angles_LH.cos(), angles_LH.sin()))


def rotate(x_BLNH: torch.Tensor, rotation_2LH: torch.Tensor) -> torch.Tensor:
    """Turn the pairs (i, i + H/2), as Llama's weights are stored for."""
    cos_L1H, sin_L1H = rotation_2LH.to(x_BLNH.dtype).unsqueeze(2)
    first, second = x_BLNH.chunk(2, dim=-1)
    return x_BLNH * cos_L1H + torch.cat((-second, first), dim=-1) * sin_L1H


def sinusoid(at_L: torch.Tensor, width: int) -> torch.Tensor:
    """The first transformer's position vectors, (L, D) (Vaswani et al. 2017)."""
    frequencies = 10_000.0 ** (-torch.arange(0, width, 2, device=at_L.device).float() / width)
    angles = torch.outer(at_L.float(), frequencies)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def alibi_slopes(heads: int) -> torch.Tensor:
    """How much each head minds distance: a geometric series (Press et al. 2022), between the steps of which the
    heads that are no power of two find theirs."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    between = [2 ** (-4 * (head + 1) / power) for head in range(0, 2 * (heads - power), 2)]
    return torch.tensor([*slopes, *between])
