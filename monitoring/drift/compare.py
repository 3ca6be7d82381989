"""Compares a window with a reference, feature by feature."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from monitoring.drift.statistics import (
    homogeneity_p_value,
    population_stability_index,
    two_proportions_p_value,
)
from monitoring.drift.window import Window, bin_counts
from monitoring.telemetry.settings import DriftSettings
from training.registry import DriftReference, Histogram

Feature = Literal["prompt_tokens", "completion_tokens", "refusal_rate", "guard_hit_rate"]
FEATURES: tuple[Feature, ...] = ("prompt_tokens", "completion_tokens", "refusal_rate", "guard_hit_rate")


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature now and then."""

    feature: Feature
    reference: float
    """Mean length in tokens (from the bins' middles), or rate."""
    current: float
    effect: float
    """Population stability index of lengths; change of a rate."""
    p_value: float
    drifted: bool
    """The effect is large and significant: with many answers every small difference is significant."""


@dataclass(frozen=True, slots=True)
class DriftReport:
    """The comparison of one window; `features` is empty when there were too few answers to say."""

    reference: str
    """NAME@VERSION of the checkpoint."""
    since: float
    until: float
    """Unix seconds."""
    samples: int
    reference_samples: int
    features: tuple[FeatureDrift, ...]
    note: str
    """Why nothing was compared; empty when it was."""

    @property
    def drifted(self) -> bool | None:
        """Whether any feature has drifted; None when nothing was compared."""
        return any(feature.drifted for feature in self.features) if self.features else None


def compare(
    name: str, reference: DriftReference, window: Window, since: float, until: float, settings: DriftSettings
) -> DriftReport:
    """Compare `window` with the `reference` of the checkpoint `name`."""
    features: tuple[FeatureDrift, ...] = ()
    note = _too_few(reference, window, settings.min_samples)
    if not note:
        features = (
            _lengths("prompt_tokens", reference.prompt_tokens, window.prompt_tokens, settings),
            _lengths("completion_tokens", reference.completion_tokens, window.completion_tokens, settings),
            _rate("refusal_rate", reference.refusal_rate, reference.samples, window.refused, window, settings),
            _rate("guard_hit_rate", reference.guard_hit_rate, reference.samples, window.guarded, window, settings),
        )
    return DriftReport(name, since, until, window.samples, reference.samples, features, note)


def _too_few(reference: DriftReference, window: Window, least: int) -> str:
    if reference.samples < least:
        return f"the reference has {reference.samples} answers, too few to compare with (at least {least})"
    if window.samples < least:
        return f"{window.samples} answers in the window, too few to compare (at least {least})"
    return ""


def _lengths(feature: Feature, reference: Histogram, lengths: Counter[int], settings: DriftSettings) -> FeatureDrift:
    counts = bin_counts(lengths, reference.edges)
    index = population_stability_index(reference.counts, counts)
    p_value = homogeneity_p_value(reference.counts, counts)
    return FeatureDrift(
        feature=feature,
        reference=_binned_mean(reference),
        current=sum(length * count for length, count in lengths.items()) / max(1, lengths.total()),
        effect=index,
        p_value=p_value,
        drifted=index >= settings.psi_threshold and p_value <= settings.significance,
    )


def _rate(
    feature: Feature, reference: float, samples: int, hits: int, window: Window, settings: DriftSettings
) -> FeatureDrift:
    current = hits / window.samples
    p_value = two_proportions_p_value(round(reference * samples), samples, hits, window.samples)
    return FeatureDrift(
        feature=feature,
        reference=reference,
        current=current,
        effect=current - reference,
        p_value=p_value,
        drifted=abs(current - reference) >= settings.rate_threshold and p_value <= settings.significance,
    )


def _binned_mean(histogram: Histogram) -> float:
    middles = [(low + high) / 2 for low, high in zip(histogram.edges, histogram.edges[1:], strict=False)]
    total = sum(histogram.counts)
    return sum(middle * count for middle, count in zip(middles, histogram.counts, strict=True)) / max(1, total)
