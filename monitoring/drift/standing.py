"""How a watched model stands: which feature has changed, since when, how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from monitoring.drift.compare import FeatureDrift, compare_sketches
from monitoring.drift.detector import PERIOD_S, Alarm
from monitoring.drift.features import FEATURES
from monitoring.drift.watched import Watched
from monitoring.telemetry.settings import DriftSettings

_LARGEST_LOG = 600.0


@dataclass(frozen=True, slots=True)
class FeatureStanding:
    """One feature: the detector's word, and the last window beside the reference."""

    feature: str
    drifted: bool | None
    """None: not watched, as the reference has too few values of it."""
    evidence_s: float
    """Unchanged traffic shows such evidence once in so many seconds, or more rarely; NaN: not watched. After an alarm
    it begins at nothing again."""
    since: float
    """When the change began, Unix seconds, estimated; 0: there is none."""
    what: str
    """What has changed: `rank higher`, `high end lower`, `rate higher`; empty: nothing."""
    reference: float
    current: float
    """Means, or rates; NaN: no values."""
    effect: float
    """Population stability index, or change of a rate; NaN: too few values."""
    p_value: float
    """Of this window alone; NaN: too few values."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One model and version."""

    model: str
    version: str
    """Digest of the checkpoint; empty: not recorded."""
    reference: str
    """`recorded` with the checkpoint, its `first answers`, or still `collecting`."""
    reference_samples: int
    samples: int
    """Answers of the last window."""
    features: tuple[FeatureStanding, ...]

    @property
    def drifted(self) -> bool | None:
        """Whether any feature has; None while nothing is watched."""
        known = [feature.drifted for feature in self.features if feature.drifted is not None]
        return any(known) if known else None


def standing(watched: Watched, now: float, settings: DriftSettings) -> Standing:
    """How `watched` stands at `now`, Unix seconds."""
    window = watched.window(now)
    collecting = "recorded" if watched.recorded else "first answers"
    evidence = watched.detector.log_evidence if watched.detector is not None else {}
    alarms = watched.drifted(now)
    return Standing(
        model=watched.model,
        version=watched.version,
        reference=collecting if watched.detector is not None else "collecting",
        reference_samples=watched.reference["prompt_tokens"].samples,
        samples=window["prompt_tokens"].samples,
        features=tuple(
            _feature(
                evidence.get(feature.name),
                alarms.get(feature.name),
                compare_sketches(feature, watched.reference[feature.name], window[feature.name], settings),
            )
            for feature in FEATURES
        ),
    )


def _feature(log_periods: float | None, alarm: Alarm | None, window: FeatureDrift) -> FeatureStanding:
    """`log_periods`: the detector's evidence; None: the feature is not watched."""
    return FeatureStanding(
        feature=window.feature,
        drifted=alarm is not None if log_periods is not None else None,
        evidence_s=math.exp(min(log_periods, _LARGEST_LOG)) * PERIOD_S if log_periods is not None else math.nan,
        since=alarm.since if alarm is not None else 0.0,
        what=f"{alarm.score} {'higher' if alarm.higher else 'lower'}" if alarm is not None else "",
        reference=window.reference,
        current=window.current,
        effect=window.effect,
        p_value=window.p_value,
    )
