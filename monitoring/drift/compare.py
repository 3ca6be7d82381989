"""Compares a window with a reference, feature by feature."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from monitoring.drift.features import Feature
from monitoring.drift.sketch import Bins, Sketch
from monitoring.drift.statistics import (
    homogeneity_p_value,
    population_stability_index,
    two_proportions_p_value,
)
from monitoring.drift.window import Window, bin_counts
from monitoring.telemetry.settings import DriftSettings
from training.registry import DriftReference, Histogram

_NUM_BINS = 10


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature now and then."""

    feature: str
    reference: float
    """Mean, or rate. Of a reference that was recorded without sketches, a length's mean is not known: NaN."""
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
            _lengths("prompt_tokens", reference, reference.prompt_tokens, window.prompt_tokens, settings),
            _lengths("completion_tokens", reference, reference.completion_tokens, window.completion_tokens, settings),
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


def compare_sketches(feature: Feature, reference: Sketch, current: Sketch, settings: DriftSettings) -> FeatureDrift:
    """Compare one feature's sketches; whether it drifted is not said: NaN without values on a side."""
    if min(reference.samples, current.samples) < settings.min_samples:
        return FeatureDrift(feature.name, reference.mean, current.mean, math.nan, math.nan, drifted=False)
    if feature.grid.kind == "flag":
        hits, total = int(reference.counts[1]), reference.samples
        p_value = two_proportions_p_value(hits, total, int(current.counts[1]), current.samples)
        effect = current.mean - reference.mean
    else:
        then, now = _coarse(reference.counts, current.counts)
        effect, p_value = population_stability_index(then, now), homogeneity_p_value(then, now)
    return FeatureDrift(feature.name, reference.mean, current.mean, effect, p_value, drifted=False)


def _coarse(reference: Bins, current: Bins) -> tuple[list[int], list[int]]:
    """Both histograms over about ten runs of bins that hold equally many of the reference."""
    ranks = np.cumsum(reference) - reference
    place = ranks * _NUM_BINS // max(1, int(reference.sum()))
    runs = np.flatnonzero(np.diff(place, prepend=-1))
    return np.add.reduceat(reference, runs).tolist(), np.add.reduceat(current, runs).tolist()


def _lengths(
    feature: str, reference: DriftReference, histogram: Histogram, lengths: Counter[int], settings: DriftSettings
) -> FeatureDrift:
    counts = bin_counts(lengths, histogram.edges)
    index = population_stability_index(histogram.counts, counts)
    p_value = homogeneity_p_value(histogram.counts, counts)
    sketch = (reference.sketches or {}).get(feature)
    return FeatureDrift(
        feature=feature,
        # The middles of the bins would say up to four times too much.
        reference=sketch.total / max(1, sum(sketch.counts.values())) if sketch else math.nan,
        current=sum(length * count for length, count in lengths.items()) / max(1, lengths.total()),
        effect=index,
        p_value=p_value,
        drifted=index >= settings.psi_threshold and p_value <= settings.significance,
    )


def _rate(
    feature: str, reference: float, samples: int, hits: int, window: Window, settings: DriftSettings
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
