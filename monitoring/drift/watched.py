"""One model and version that is watched: its reference, its evidence, its last hour. Constant memory."""

from __future__ import annotations

import base64
import math
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from monitoring.drift.detector import PERIOD_S, Alarm, Detector
from monitoring.drift.features import FEATURES, Answer, values_of
from monitoring.drift.scores import make_scores
from monitoring.drift.sketch import Bins, Sketch, Values
from monitoring.telemetry.settings import DriftSettings

Sketches = dict[str, Sketch]

_ERROR = 0.01
"""Probability that any of a reference's bands misses: then the promise is not kept for this reference."""
_DAY_S = 86_400.0


class Watched:
    """Answers go in with `add`; alarms, evidence and sketches come out."""

    def __init__(self, model: str, version: str, settings: DriftSettings) -> None:
        self.model = model
        self.version = version
        self.reference: Sketches = _empty()
        self.recorded = False
        """Whether the reference is a checkpoint's, not this model's first answers."""
        self.alarms: dict[str, Alarm] = {}
        """The last alarm of each feature that counts as drifted, as it was raised first while it has stayed."""
        self.last_at = 0.0
        self._settings = settings
        self._since = 0.0
        self._samples = 0
        self._detector: Detector | None = None
        self._last_raised: dict[str, float] = {}
        self._recent: deque[tuple[int, Sketches]] = deque()

    @property
    def detector(self) -> Detector | None:
        """None while the reference is being collected."""
        return self._detector

    def has_reference(self, reference: Mapping[str, Sketch]) -> bool:
        """Whether this checkpoint's reference is the one in use."""
        whole = {**_empty(), **reference}
        return self.recorded and all(own.holds_the_same_as(whole[name]) for name, own in self.reference.items())

    def use_reference(self, reference: Mapping[str, Sketch]) -> None:
        """Take a checkpoint's reference. Evidence against another one is dropped."""
        self.reference = {**_empty(), **reference}
        self.recorded = True
        self._make_detector()

    def add(self, answers: Sequence[Answer]) -> list[Alarm]:
        """Take in answers in the order of the ledger; returns the alarms that they raise."""
        alarms: list[Alarm] = []
        while answers:
            # The reference is complete at an answer, wherever a read of the ledger ends.
            rest = self._collect(answers) if self._detector is None else answers
            if self._detector is not None and rest:
                alarms += self._watch(self._detector, rest)
                rest = ()
            answers = rest
        return alarms

    def window(self, now: float) -> Sketches:
        """Sketches of the last `window_s`, in whole periods."""
        first = int((now - self._settings.window_s) // PERIOD_S)
        merged = _empty()
        for period, sketches in self._recent:
            if period >= first:
                for name, sketch in sketches.items():
                    merged[name].merge(sketch)
        return merged

    def drifted(self, now: float) -> dict[str, Alarm]:
        """Features that count as drifted, with the alarm that raised each first."""
        held = {name for name, at in self._last_raised.items() if now - at <= self._settings.hold_s}
        self.alarms = {name: alarm for name, alarm in self.alarms.items() if name in held}
        return self.alarms

    def state(self) -> dict[str, Any]:
        """Everything, for `from_state`; JSON."""
        return {
            "model": self.model,
            "version": self.version,
            "recorded": self.recorded,
            "reference": pack(self.reference),
            "since": self._since,
            "samples": self._samples,
            "last_at": self.last_at,
            "alarms": {name: asdict(alarm) for name, alarm in self.alarms.items()},
            "last_raised": self._last_raised,
            "recent": [[period, pack(sketches)] for period, sketches in self._recent],
            "tolerance": self._settings.tolerance,
            "detector": self._detector.state() if self._detector is not None else None,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], settings: DriftSettings) -> Watched:
        """Go on from `state`. Evidence against another reference or beyond another tolerance is not kept."""
        watched = cls(state["model"], state["version"], settings)
        watched.recorded, watched.reference = state["recorded"], {**_empty(), **unpack(state["reference"])}
        watched._since, watched._samples, watched.last_at = state["since"], state["samples"], state["last_at"]
        watched.alarms = {
            name: Alarm(**{**alarm, "features": tuple(alarm["features"])}) for name, alarm in state["alarms"].items()
        }
        watched._last_raised = dict(state["last_raised"])
        watched._recent = deque((period, {**_empty(), **unpack(packed)}) for period, packed in state["recent"])
        if state["detector"] is not None:
            detector = watched._make_detector()
            if state["tolerance"] == settings.tolerance:
                detector.restore(state["detector"])
        return watched

    def _collect(self, answers: Sequence[Answer]) -> Sequence[Answer]:
        """Count answers towards the reference; returns those that come after it is complete."""
        self._since = self._since or answers[0].created_at
        enough_at = self._since + self._settings.reference_days * _DAY_S
        used = 0
        for answer in answers:
            used += 1
            self._samples += not math.isnan(answer.prompt_tokens)  # a rating is no answer
            if self._samples >= self._settings.reference_samples and answer.created_at >= enough_at:
                break
        taken = answers[:used]
        for feature, bins, values in zip(FEATURES, *self._remember(taken), strict=True):
            self.reference[feature.name].add(bins, values)
        last = taken[-1]
        if self._samples >= self._settings.reference_samples and last.created_at >= enough_at:
            self._make_detector()
        return answers[used:]

    def _watch(self, detector: Detector, answers: Sequence[Answer]) -> list[Alarm]:
        bins, _ = self._remember(answers)
        by_name = {feature.name: own for feature, own in zip(FEATURES, bins, strict=True)}
        times = np.array([answer.created_at for answer in answers])
        alarms = detector.update([by_name[name] for name in detector.features], times)
        for alarm in alarms:
            self.drifted(alarm.at)
            for name in alarm.features:
                self.alarms.setdefault(name, alarm)
                self._last_raised[name] = alarm.at
        return alarms

    def _make_detector(self) -> Detector:
        least = self._settings.min_samples
        seen = [feature for feature in FEATURES if self.reference[feature.name].samples >= least]
        scores = {
            feature.name: make_scores(
                feature.grid,
                self.reference[feature.name],
                error=_ERROR / max(1, len(seen)),
                tolerance=self._settings.tolerance,
            )
            for feature in seen
        }
        self._detector = Detector(scores, self._settings.run_length_days * _DAY_S)
        return self._detector

    def _remember(self, answers: Sequence[Answer]) -> tuple[list[Bins], list[Values]]:
        """Count answers of the last window; older ones are forgotten. Returns each feature's bins and values."""
        values = values_of(answers)
        bins = [feature.grid.bins(own) for feature, own in zip(FEATURES, values, strict=True)]
        self.last_at = max(self.last_at, *(answer.created_at for answer in answers))
        periods = np.array([answer.created_at // PERIOD_S for answer in answers])
        first = (self.last_at - self._settings.window_s) // PERIOD_S
        for period in np.unique(periods[periods >= first]):
            rows = periods == period
            sketches = self._of_period(int(period))
            for feature, own_bins, own in zip(FEATURES, bins, values, strict=True):
                sketches[feature.name].add(own_bins[rows], own[rows])
        while self._recent and self._recent[0][0] < first:
            self._recent.popleft()
        return bins, values

    def _of_period(self, period: int) -> Sketches:
        for known, sketches in self._recent:
            if known == period:
                return sketches
        self._recent.append((period, _empty()))
        return self._recent[-1][1]


def pack(sketches: Mapping[str, Sketch]) -> dict[str, Any]:
    """Sketches as JSON: their sums, and their counts in a compact text."""
    return {
        name: [sketch.total, base64.b64encode(zlib.compress(sketch.counts.astype("<i8").tobytes())).decode()]
        for name, sketch in sketches.items()
        if sketch.samples
    }


def unpack(packed: Mapping[str, Any]) -> Sketches:
    """The sketches of `pack`; features that this release does not know are left out."""
    known = {feature.name: feature.grid for feature in FEATURES}
    sketches = {}
    for name, (total, text) in packed.items():
        if name in known:
            counts = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<i8").astype(np.int64)
            if len(counts) == known[name].num_bins:
                sketches[name] = Sketch(counts, total)
    return sketches


def _empty() -> Sketches:
    return {feature.name: Sketch.empty(feature.grid) for feature in FEATURES}
