"""How private a run of DP-SGD is: noise for a budget, and the budget that was spent, computed twice.

A step takes part of the examples at random (Poisson sampling: each by itself, with the same chance), and adds Gaussian
noise to the sum of their clipped gradients. The noise is found here, by Rényi divergences integrated numerically from
their definition; after the run, Opacus's accountant, which sums series and shares no code with it, must say the same.
"""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass

import numpy as np

from training.errors import RecipeError, TrainingError
from training.recipes.sections import PrivacySettings

# Both accountants look at the same orders: the best of them is the bound. Small budgets need high ones.
ORDERS = [1 + tenth / 10 for tenth in range(1, 100)] + [float(order) for order in (*range(12, 64), 96, 128, 256, 512)]
# Multipliers among which the noise is looked for, and how closely.
_LEAST_NOISE, _MOST_NOISE, _PRECISION = 0.2, 1e5, 1e-4
# What two ways of computing one figure may differ by.
TOLERANCE = 1e-3

# Of the integral: tails beyond are below 1e-31, and smooth integrands need no more points.
_TAIL_DEVIATIONS, _POINTS_PER_DEVIATION = 12, 20


@dataclass(frozen=True)
class Guarantee:
    """What a private run promises of its weights: (epsilon, delta) for adding or removing one example."""

    epsilon: float
    delta: float
    noise_multiplier: float
    """Standard deviation of the noise, in units of the clipping norm."""
    sample_rate: float
    """The chance of each example to be in a step."""
    steps: int

    def figures(self) -> dict[str, float]:
        """For the manifest."""
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "noise_multiplier": self.noise_multiplier,
            "sample_rate": self.sample_rate,
            "private_steps": self.steps,
        }

    def __str__(self) -> str:
        return (
            f"Differentially private by example: epsilon {self.epsilon:.3f} at delta {self.delta:g}; "
            f"noise multiplier {self.noise_multiplier:.3f}, sample rate {self.sample_rate:.4g}, {self.steps:,} steps"
        )


@functools.cache
def find_noise(settings: PrivacySettings, sample_rate: float, steps: int) -> float:
    """The noise multiplier by which so many steps stay within the budget; raises RecipeError where none does."""
    low, high = 0.0, _LEAST_NOISE
    while spent(high, sample_rate, steps, settings.delta) > settings.epsilon:
        low, high = high, 2 * high
        if high > _MOST_NOISE:
            raise RecipeError(
                f"privacy: no noise brings {steps} steps down to epsilon {settings.epsilon:g} at delta "
                f"{settings.delta:g}: take fewer steps, or a larger epsilon"
            )
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        if spent(middle, sample_rate, steps, settings.delta) > settings.epsilon:
            low = middle
        else:
            high = middle
    return high


def guarantee(settings: PrivacySettings, noise_multiplier: float, sample_rate: float, steps: int) -> Guarantee:
    """What so many steps have spent, by both accountants; raises TrainingError where they differ, or it is too much."""
    ours = spent(noise_multiplier, sample_rate, steps, settings.delta)
    theirs = _spent_by_opacus(noise_multiplier, sample_rate, steps, settings.delta)
    if not abs(ours - theirs) <= TOLERANCE:
        raise TrainingError(f"privacy: two accountants differ, epsilon {theirs:.6f} and {ours:.6f}: nothing registered")
    epsilon = max(ours, theirs)
    if epsilon > settings.epsilon + TOLERANCE:
        raise TrainingError(f"privacy: epsilon {epsilon:.6f} was spent, {settings.epsilon:g} allowed")
    return Guarantee(epsilon, settings.delta, noise_multiplier, sample_rate, steps)


def spent(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Epsilon, from Rényi divergences by the conversion of Canonne, Kamath and Steinke (2020, proposition 12)."""
    epsilons = []
    for order in ORDERS:
        divergence = steps * renyi_divergence(order, sample_rate, noise_multiplier)
        epsilons.append(divergence - (math.log(delta) + math.log(order)) / (order - 1) + math.log((order - 1) / order))
    return max(0.0, min(epsilons))


def renyi_divergence(order: float, sample_rate: float, sigma: float) -> float:
    """Of one step, in nats: log E[((1 - q) + q exp((2z - 1) / 2σ²))^α] / (α - 1) for z of N(0, σ²).

    The larger one of the two directions (Mironov, Talwar and Zhang 2019, theorem 5).
    """
    low, high = -_TAIL_DEVIATIONS * sigma, order + _TAIL_DEVIATIONS * sigma
    z, width = np.linspace(low, high, math.ceil((high - low) / sigma * _POINTS_PER_DEVIATION), retstep=True)
    shifted = math.log(sample_rate) + (2 * z - 1) / (2 * sigma**2)
    ratio = shifted if sample_rate == 1 else np.logaddexp(math.log1p(-sample_rate), shifted)
    density = -(z**2) / (2 * sigma**2) - math.log(sigma * math.sqrt(2 * math.pi))
    logs = density + order * ratio
    largest = float(logs.max())
    moment = largest + math.log(float(np.exp(logs - largest).sum()) * float(width))
    return moment / (order - 1)


def _spent_by_opacus(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta=delta, alphas=ORDERS))
