"""What attention has computed of earlier tokens, kept so that a new token costs one position and not all.

Tensors are named with their shapes: B sequences, M positions kept, L new ones, K heads of keys and values, H width of
a head. A row of a batch is one sequence; all rows are equally long.
"""

from __future__ import annotations

import torch

from training.model.config import ModelConfig


class Cache:
    """Keeps keys and values of every position, as they are."""

    def __init__(self, config: ModelConfig) -> None:
        self.length = 0
        """Positions that have been read, whether or not all are still kept."""
        self._config = config
        self._kept: list[tuple[torch.Tensor, ...] | None] = [None] * config.layers

    def advance(self, num_new: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Begin a pass over new tokens: at which positions they stand, and at which all keys will."""
        first, end = self.length, self.length + num_new
        self.length = end
        at_L = torch.arange(first, end, device=device)
        # The same tensor where nothing is kept: `Positions` takes its fast path only then.
        return at_L, torch.arange(first - self.num_kept, end, device=device) if self.num_kept else at_L

    def append(self, layer: int, k_BLKH: torch.Tensor, v_BLKH: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add a layer's new keys and values, and return all that the new tokens may look at."""
        before = self._kept[layer]
        k_BMKH, v_BMKH = k_BLKH, v_BLKH
        if before is not None:
            old_k, old_v = self._unpack(before)
            k_BMKH, v_BMKH = torch.cat((old_k, k_BLKH), dim=1), torch.cat((old_v, v_BLKH), dim=1)
        # This pass sees the new keys as they are; only later ones see what packing left of them.
        packed = self._pack(k_BLKH, v_BLKH)
        if before is not None:
            packed = tuple(torch.cat(pair, dim=1) for pair in zip(before, packed, strict=True))
        self._kept[layer] = self._keep(packed)
        return k_BMKH, v_BMKH

    def take_rows(self, rows: torch.Tensor) -> None:
        """Go on with these rows of the batch, in this order: a search keeps some beams and drops others."""
        self._kept = [kept and tuple(tensor[rows] for tensor in kept) for kept in self._kept]

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on: tokens that were guessed and refused."""
        if length < self.length - self.num_kept:
            raise ValueError(f"position {length} is no longer kept")
        drop = self.length - length
        if drop:
            self._kept = [kept and tuple(tensor[:, :-drop] for tensor in kept) for kept in self._kept]
            self.length = length

    @property
    def num_kept(self) -> int:
        """Positions whose keys and values are held."""
        first = self._kept[0]
        return 0 if first is None else first[0].shape[1]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for kept in self._kept if kept is not None for tensor in kept)

    def _pack(self, k_BLKH: torch.Tensor, v_BLKH: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return k_BLKH, v_BLKH

    def _unpack(self, kept: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        k_BMKH, v_BMKH = kept
        return k_BMKH, v_BMKH

    def _keep(self, kept: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return kept


class SlidingCache(Cache):
    """Keeps only what a model with a window can still look at: memory stops growing."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if config.window is None:
            raise ValueError("a model without a window looks at all positions: they must be kept")
        self._most = config.window - 1  # the new token itself is the last of the window

    def _keep(self, kept: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        # Cloned, since a view would hold the whole in memory.
        return tuple(tensor[:, max(0, tensor.shape[1] - self._most) :].clone() for tensor in kept)


class Int8Cache(Cache):
    """Keeps 8-bit integers with one scale for each position and head: a quarter of fp32, at half a step of error."""

    def _pack(self, k_BLKH: torch.Tensor, v_BLKH: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (*_quantized(k_BLKH), *_quantized(v_BLKH))

    def _unpack(self, kept: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        k_BMKH, k_scale_BMK1, v_BMKH, v_scale_BMK1 = kept
        return k_BMKH * k_scale_BMK1, v_BMKH * v_scale_BMK1


def _quantized(x_BLKH: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # 127, not 128: the range stays symmetric. The floor keeps a row of zeros from dividing by zero.
    scale_BLK1 = x_BLKH.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / 127
    return (x_BLKH / scale_BLK1).round().to(torch.int8), scale_BLK1
