"""What a run computes, beside what this machine could: FLOPs, and the part of its peak that was used."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import torch

# Large enough to reach the peak on a CPU and most GPUs, small enough for a fraction of a second.
_SIZE = {"cpu": 1024, "cuda": 8192}
_ROUNDS = 5
# Enough of them: CPUs without instructions for fp16 need seconds for each.
_ENOUGH_SECONDS = 1.0


@dataclass(frozen=True)
class Throughput:
    """Of the steps that this process took."""

    tokens: int
    flops: float
    """Forward and backward: 6 for each active weight and token, and attention's (`training_flops_per_token`)."""
    seconds: float
    peak_flops_per_second: float
    """Measured: the best of a few large matrix products of the same type, over all processes."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def utilization(self) -> float:
        """Part of the measured peak."""
        return self.flops / self.seconds / self.peak_flops_per_second

    def figures(self) -> dict[str, float]:
        return {**asdict(self), "tokens_per_second": self.tokens_per_second, "utilization": self.utilization}

    def __str__(self) -> str:
        return (
            f"{self.flops:.2e} FLOPs, {self.tokens_per_second:,.0f} tokens/s, "
            f"{self.utilization:.0%} of the {self.peak_flops_per_second / 1e9:,.0f} GFLOP/s of a large matrix product"
        )


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations a second in square matrix products."""
    size = _SIZE.get(device.type, 1024)
    left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    # The best: the first rounds warm up, and other programs can only slow a product down.
    taken: list[float] = []
    while len(taken) < _ROUNDS and sum(taken) < _ENOUGH_SECONDS:
        taken.append(_seconds(left, right))
    return 2.0 * size**3 / min(taken)


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    if left.is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    left @ right
    if left.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
