"""The arithmetic of merging: one tensor out of the same tensor of several models, all in fp32."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def linear(tensors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """The weighted mean (Wortsman et al. 2022, model soups)."""
    total = sum(weights)
    mean = torch.zeros_like(tensors[0])
    for tensor, weight in zip(tensors, weights, strict=True):
        mean.add_(tensor, alpha=weight / total)
    return mean


def slerp(first: torch.Tensor, second: torch.Tensor, t: float) -> torch.Tensor:
    """The point `t` of the way along the arc from one to the other, both read as vectors (Shoemake 1985).

    Nearly parallel ones have no arc to speak of: there it is the straight line.
    """
    norms = first.norm() * second.norm()
    cosine = (first * second).sum() / norms if norms > 0 else torch.tensor(1.0)
    # The usual bound: arccos in fp32 loses digits as its argument nears 1.
    if abs(float(cosine)) > 0.9995:
        return torch.lerp(first, second, t)
    angle = torch.arccos(cosine)
    return (torch.sin((1 - t) * angle) * first + torch.sin(t * angle) * second) / torch.sin(angle)


def ties(
    base: torch.Tensor, tensors: Sequence[torch.Tensor], weights: Sequence[float], density: float, scale: float
) -> torch.Tensor:
    """Trim, elect a sign, and average what agrees with it (Yadav et al. 2023), within this tensor."""
    sums = torch.zeros_like(base)
    deltas = []
    for tensor, weight in zip(tensors, weights, strict=True):
        delta = _largest(tensor - base, density)
        sums.add_(delta, alpha=weight)
        deltas.append(delta)
    elected = sums.sign()
    merged, shares = torch.zeros_like(base), torch.zeros_like(base)
    for delta, weight in zip(deltas, weights, strict=True):
        # Weights are divided among those that agree: trimmed entries do not pull the mean to zero.
        agrees = (delta.sign() == elected) & (delta != 0)
        merged.add_(delta * agrees, alpha=weight)
        shares.add_(agrees, alpha=weight)
    return base + scale * torch.where(shares > 0, merged / shares, 0)


def dare(
    base: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    weights: Sequence[float],
    density: float,
    scale: float,
    seed: tuple[int, str],
) -> torch.Tensor:
    """Drop differences at random and rescale the rest, so that their expectation stays (Yu et al. 2024).

    `seed` is the recipe's and the tensor's name: what is drawn does not depend on the order of tensors.
    """
    merged = base.clone()
    for index, (tensor, weight) in enumerate(zip(tensors, weights, strict=True)):
        digest = hashlib.blake2b(repr((*seed, index)).encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        kept = torch.rand(base.shape, generator=generator) < density
        merged.add_((tensor - base) * kept, alpha=scale * weight / density)
    return merged


def _largest(delta: torch.Tensor, density: float) -> torch.Tensor:
    """The difference with all but its largest entries set to zero."""
    kept = max(1, round(density * delta.numel()))
    if kept == delta.numel():
        return delta
    # kthvalue counts from the smallest. Entries as large as the last one are all kept.
    smallest = delta.abs().flatten().kthvalue(delta.numel() - kept + 1).values
    return torch.where(delta.abs() >= smallest, delta, 0)
