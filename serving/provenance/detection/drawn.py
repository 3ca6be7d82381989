"""What a text's tokens were drawn from, as far as an engine tells.

Engines tell log-probabilities as they were before temperature, top-k and top-p: of each token, and of the likeliest in
its place. At temperature 1 the first are enough. At others the sum that the probabilities are divided by is needed, of
which the likeliest make up nearly all at low temperatures; beyond them probabilities are taken to fall with a power of
their rank, the power that leaves them what the listed ones leave over.

T tokens, C listed in the place of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from serving.provenance.schemes import Rivals

Floats = NDArray[np.float64]

# No token is taken to be less likely.
LOWEST = -50.0
# The rank at which the tail ends: beyond, a model's probabilities fall faster than with any power. Fitted to the
# default model's whole distributions over 49,152 tokens at temperatures of 1.3 and 2; below 1 it hardly matters.
LAST_RANK = 10_000
# Engines decode greedily below, so a token has no alternative.
GREEDY_BELOW = 1e-5
# Log-probabilities this close are one token's.
CLOSE = 1e-6
# Where next to nothing is left for the tail.
STEEPEST = 1e5
# Exponents beyond which floating point ends: of weights in units of the largest, and of a token's own.
FARTHEST = 700.0
MOST_NATS = 300.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer's tokens were drawn; as an engine is asked. `top_k` 0: of all."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


PLAIN = Sampling()


@dataclass(frozen=True, slots=True)
class Drawn:
    """The distributions of a text's tokens."""

    probabilities: Floats
    """[T], of the tokens that came, as they were drawn; 1 where that is unknown or the settings rule them out."""
    collision_nats: Floats | None = None
    """[T], minus the logarithm of the chance that two draws at this position agree; None: nobody told."""
    rivals: Rivals | None = None
    sampling: Sampling = PLAIN


def drawn_from(
    logprobs: Sequence[float | None],
    top_logprobs: Sequence[Sequence[float] | None] | None = None,
    sampling: Sampling = PLAIN,
) -> Drawn:
    """From what an engine tells; an unknown token counts as certain, so it weighs nothing.

    `top_logprobs` are the likeliest in each token's place, the token itself among them or not. Raises ValueError for
    another sampling than the plain one without them.
    """
    own = np.clip(np.array([0.0 if one is None else one for one in logprobs], np.float64), LOWEST, 0.0)
    if top_logprobs is None:
        if sampling != PLAIN:
            raise ValueError("what was drawn at such a temperature, top-k or top-p is known with top_logprobs only")
        return Drawn(np.exp(own))
    if not len(own):
        return Drawn(own, own, sampling=sampling)
    if len(top_logprobs) != len(own):
        raise ValueError(f"there are {len(own)} log-probabilities and {len(top_logprobs)} lists of the likeliest")
    unknown = np.array([one is None or not top for one, top in zip(logprobs, top_logprobs, strict=True)], np.bool_)
    return _Positions(own, _listed(top_logprobs), unknown, sampling).drawn()


def _listed(top_logprobs: Sequence[Sequence[float] | None]) -> Floats:
    """[T, C], the likeliest first, -inf where there are fewer."""
    columns = list(zip_longest(*((one or (0.0,)) for one in top_logprobs), fillvalue=-math.inf))
    listed = np.array(columns, np.float64).reshape(len(columns), len(top_logprobs)).T
    ordered: Floats = -np.sort(-np.minimum(listed, 0.0), axis=1)
    return ordered


class _Positions:
    """The positions of a text; weights are in units of the likeliest token's, at the temperature."""

    def __init__(self, own: Floats, listed: Floats, unknown: NDArray[np.bool_], sampling: Sampling) -> None:
        self.own, self.listed, self.unknown, self.sampling = own, listed, unknown, sampling
        self.heat = 1 / max(sampling.temperature, GREEDY_BELOW)
        self.num_listed = np.isfinite(listed).sum(axis=1)
        self.least = listed[np.arange(len(own)), self.num_listed - 1]
        self.is_listed = own >= self.least - CLOSE
        self.own_weight = self._weight(own)
        self.left = 1 - np.exp(listed).sum(axis=1) - np.where(self.is_listed, 0.0, np.exp(own))
        self.tail_power = _tail_power(np.log(np.maximum(self.left, 1e-30)) - self.least, self.num_listed)

    def drawn(self) -> Drawn:
        """As the settings have it: first temperature, then top-k, then top-p."""
        top_k = self.sampling.top_k or max(LAST_RANK, self.listed.shape[1])
        weights = np.where(np.isfinite(self.listed), self._weight(self.listed.T).T, 0.0)
        weights[:, top_k:] = 0.0
        apart = np.where(self.is_listed | (top_k <= self.num_listed), 0.0, self.own_weight)
        tail, tail_squares = self._tail(top_k, 1), self._tail(top_k, 2)
        weights, kept = self._nucleus(weights, tail + apart)
        others = (tail + apart) * kept
        total = weights.sum(axis=1) + others
        least = np.where(others > 0, 0.0, np.where(weights > 0, weights, np.inf).min(axis=1))
        certain = self.unknown | (self.own_weight < least * (1 - CLOSE)) | (self.sampling.temperature < GREEDY_BELOW)
        probabilities = np.where(certain, 1.0, np.clip(self.own_weight / total, math.exp(LOWEST), 1.0))
        squares = (np.square(weights).sum(axis=1) + (tail_squares + apart**2) * kept) / total**2
        nats = np.where(self.unknown, 0.0, -np.log(np.minimum(squares, 1.0)))
        return Drawn(probabilities, nats, self._rivals(np.maximum(squares - probabilities**2, 0.0)), self.sampling)

    def _weight(self, logprobs: Floats) -> Floats:
        weight: Floats = np.exp(np.clip((logprobs - self.listed[:, 0]) * self.heat, -FARTHEST, 0.0))
        return weight

    def _tail(self, last: int, exponent: int) -> Floats:
        """The sum of the weights, or of their squares, over the tokens that are not listed, up to a rank."""
        heat = exponent * self.heat
        unit = np.exp(np.maximum((self.least - self.listed[:, 0]) * heat, -FARTHEST))
        tail: Floats = np.where(self.left > 0, unit * _power_sum(heat * self.tail_power, self.num_listed, last), 0.0)
        return tail

    def _nucleus(self, weights: Floats, others: Floats) -> tuple[Floats, Floats]:
        """The listed that top-p keeps, and which share of all others."""
        if self.sampling.top_p >= 1:
            return weights, np.ones(len(weights))
        mass = self.sampling.top_p * (weights.sum(axis=1) + others)
        above = np.cumsum(weights, axis=1) - weights
        beyond = np.clip(mass - weights.sum(axis=1), 0.0, others)
        kept = np.where((above < mass[:, None]) | (np.arange(weights.shape[1]) == 0), weights, 0.0)
        return kept, np.divide(beyond, others, out=np.zeros_like(others), where=others > 0)

    def _rivals(self, collision: Floats) -> Rivals:
        """Those that top-k or top-p rule out too: a green list lifts tokens before."""
        gaps = np.where(self.unknown[:, None], -np.inf, self.listed - self.own[:, None])
        itself = np.abs(np.where(np.isfinite(gaps), gaps, np.inf)).argmin(axis=1)  # of equals the first
        rows = np.flatnonzero(self.is_listed)
        gaps[rows, itself[rows]] = -np.inf
        tail = np.log(np.maximum(self._tail(LAST_RANK, 1), math.exp(-FARTHEST)))
        distance = np.maximum(self.own - self.listed[:, 0], LOWEST) * self.heat
        rest = np.where(self.unknown, 0.0, np.exp(np.clip(tail - distance, -FARTHEST, MOST_NATS)))
        return Rivals(gaps, rest, collision, self.sampling.temperature)


def _power_sum(power: Floats, num_listed: NDArray[np.int64], last: int) -> Floats:
    """The integral over ranks r from `num_listed` to `last` of (r / num_listed) ** -power."""
    length = np.log(np.maximum(last / num_listed, 1.0))
    exponent = (1 - power) * length
    near = np.abs(exponent) < 1e-6
    total: Floats = num_listed * length * np.where(near, 1.0, np.expm1(exponent) / np.where(near, 1.0, exponent))
    return total


def _tail_power(log_mass: Floats, num_listed: NDArray[np.int64]) -> Floats:
    """The power at which the tail's mass is so many times the least listed probability; by halving."""
    low, high = np.zeros_like(log_mass), np.full_like(log_mass, STEEPEST)
    for _ in range(60):
        middle = (low + high) / 2
        too_much = _power_sum(middle, num_listed, LAST_RANK) > np.exp(log_mass)
        low, high = np.where(too_much, middle, low), np.where(too_much, high, middle)
    return high
