"""Sequential detection of change with a stated mean time between false alarms.

E-detectors: Shin, Ramdas, Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", New
England Journal of Statistics in Data Science 2(2), 2024 (arXiv:2203.03532). A bet on a score x in [0, 1] whose mean is
at most m pays 1 + f (x - m) / m: at most 1 on average, whatever the distribution. The product of payments since a
possible change is the evidence for it. The Shiryaev-Roberts e-detector sums this evidence over all possible changes; if
one change is possible in each period of time, the sum is expected to be at most the number of periods so far, so
stopping when it reaches N takes N periods on average, or longer. It is averaged over sizes of bets (a mixture), the
scores of a feature, and the features: an average of e-detectors is one, however they depend on each other.

Periods are of time, not answers: the promise is in days at any rate of traffic. Periods without answers add nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.drift.scores import Scores
from monitoring.drift.sketch import Bins

PERIOD_S = 600.0
"""One change is possible in each period of so many seconds."""

_STAKES = np.array([1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 0.9])
"""Shares of what is at hand that are bet: small ones find small changes, large ones find large changes soon."""

Logs = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Alarm:
    """Evidence that reached the threshold."""

    at: float
    """Unix time of the answer that did it."""
    since: float
    """Unix time of the period in which the change began, by the strongest evidence (the CUSUM e-detector's)."""
    features: tuple[str, ...]
    """Those with evidence enough of their own, the strongest first."""
    score: str
    """What of the strongest feature has changed: its rank, an end, a rate, a class."""
    higher: bool
    """Whether that has grown."""
    log_evidence: float
    """Natural logarithm of the whole model's evidence, in periods."""


class Detector:
    """Watches the features of one model against the scores that its reference gave. Constant memory."""

    def __init__(self, scores: Mapping[str, Scores], run_length_s: float) -> None:
        """`run_length_s`: least mean time between false alarms, seconds, of all features together."""
        self.features = tuple(scores)
        self._scores = tuple(scores.values())
        self._tables = [_log_payments(own) for own in self._scores]
        self._threshold = math.log(max(run_length_s / PERIOD_S, 2.0))
        self._sums: list[Logs] = [np.full(table.shape[1:], -np.inf) for table in self._tables]
        self._best: list[Logs] = [np.zeros(table.shape[1:]) for table in self._tables]
        self._since: list[Logs] = [np.zeros(table.shape[1:]) for table in self._tables]
        self._begun = [False] * len(self._tables)
        self._period = -1

    @property
    def log_evidence(self) -> dict[str, float]:
        """Evidence of each feature, in periods, as a natural logarithm."""
        return {name: _log_mean(sums) for name, sums in zip(self.features, self._sums, strict=True)}

    def update(self, bins: Sequence[Bins], times: NDArray[np.float64]) -> list[Alarm]:
        """Take in answers in their order: a row of bins for each feature (-1: not known), and Unix seconds.

        How answers are cut into calls makes no difference.
        """
        alarms: list[Alarm] = []
        # Long answers are recorded after later, shorter ones; time goes on only.
        periods = np.maximum.accumulate(np.maximum(times // PERIOD_S, self._period))
        cuts = np.flatnonzero(np.diff(periods)) + 1
        for rows in np.split(np.arange(len(times)), cuts):
            while len(rows):
                self._enter(int(periods[rows[0]]))
                alarm, used = self._advance([own[rows] for own in bins], times[rows])
                if alarm is not None:
                    alarms.append(alarm)
                rows = rows[used:]
        return alarms

    def state(self) -> dict[str, Any]:
        """All evidence, for `restore`; plain lists and numbers."""
        return {
            "period": self._period,
            "begun": self._begun,
            # JSON has no infinity: evidence of nothing yet is null.
            "sums": [[None if math.isinf(value) else value for value in sums.ravel().tolist()] for sums in self._sums],
            "best": [best.ravel().tolist() for best in self._best],
            "since": [since.ravel().tolist() for since in self._since],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state` of a detector with the same scores.

        Raises:
            ValueError: it is of another one.
        """
        shapes = [table.shape[1:] for table in self._tables]
        if len(state["begun"]) != len(shapes):
            raise ValueError("the state is one of other features")
        sums, best, since = (
            [
                np.array([-np.inf if value is None else value for value in flat], dtype=np.float64).reshape(shape)
                for flat, shape in zip(state[name], shapes, strict=True)
            ]
            for name in ("sums", "best", "since")
        )
        self._sums, self._best, self._since = sums, best, since
        self._begun, self._period = list(state["begun"]), int(state["period"])

    def _enter(self, period: int) -> None:
        if period != self._period:
            self._period = period
            self._begun = [False] * len(self._begun)

    def _advance(self, bins: Sequence[Bins], times: NDArray[np.float64]) -> tuple[Alarm | None, int]:
        """Take in answers of one period up to the first alarm; also returns how many were."""
        grown: list[tuple[Logs, Logs]] = []
        evidence = np.empty((len(self._tables), len(times)))
        for feature, (table, own) in enumerate(zip(self._tables, bins, strict=True)):
            gains = np.cumsum(table[own], axis=0)
            sums, best = self._with_new_change(feature, own)
            grown.append((sums, gains))
            evidence[feature] = _log_mean_rows(sums + gains)
            self._best[feature] = best
        total = _log_mean_rows(evidence.T)
        crossed = np.flatnonzero(total >= self._threshold)
        used = int(crossed[0]) + 1 if len(crossed) else len(times)
        for feature, (sums, gains) in enumerate(grown):
            self._sums[feature] = sums + gains[used - 1]
            self._best[feature] = self._best[feature] + gains[used - 1]
        if not len(crossed):
            return None, used
        alarm = self._alarm(float(times[used - 1]), evidence[:, used - 1], float(total[used - 1]))
        self._start_anew()
        return alarm, used

    def _with_new_change(self, feature: int, own: Bins) -> tuple[Logs, Logs]:
        """Evidence with the change that may begin in this period, once the feature is seen in it."""
        sums, best = self._sums[feature], self._best[feature]
        if self._begun[feature] or not (own >= 0).any():
            return sums, best
        self._begun[feature] = True
        self._since[feature] = np.where(best <= 0, self._period * PERIOD_S, self._since[feature])
        return np.logaddexp(sums, 0.0), np.maximum(best, 0.0)

    def _alarm(self, at: float, evidence: NDArray[np.float64], total: float) -> Alarm:
        order = np.argsort(-evidence)
        named = [int(feature) for feature in order if evidence[feature] >= self._threshold]
        strongest = named[0]
        score, side, stake = np.unravel_index(int(np.argmax(self._best[strongest])), self._best[strongest].shape)
        return Alarm(
            at=at,
            since=float(self._since[strongest][score, side, stake]),
            features=tuple(self.features[feature] for feature in named),
            score=self._scores[strongest].names[score],
            higher=bool(side == 0),
            log_evidence=total,
        )

    def _start_anew(self) -> None:
        """After an alarm: the next false one is as far away as the first was. Its change begins in a later period."""
        for feature, table in enumerate(self._tables):
            self._sums[feature] = np.full(table.shape[1:], -np.inf)
            self._best[feature] = np.zeros(table.shape[1:])


def _log_payments(scores: Scores) -> Logs:
    """[bins + 1, scores, 2, stakes] Logarithm of what each bet pays, on a higher and a lower mean; 0 for bin -1."""
    values = scores.values.T[:, :, None, None]
    above = (values - scores.high[:, None, None]) / scores.high[:, None, None]
    below = (scores.low[:, None, None] - values) / (1 - scores.low[:, None, None])
    paid: Logs = np.log1p(np.concatenate([above, below], axis=2) * _STAKES)
    return np.concatenate([paid, np.zeros((1, *paid.shape[1:]))])


def _log_mean(values: Logs) -> float:
    return float(_log_mean_rows(values[None])[0])


def _log_mean_rows(values: Logs) -> NDArray[np.float64]:
    """Logarithm of the mean of exp(values) of each row."""
    flat = values.reshape(len(values), -1)
    peak = flat.max(axis=1)
    safe = np.where(np.isfinite(peak), peak, 0.0)
    with np.errstate(divide="ignore"):
        result: NDArray[np.float64] = safe + np.log(np.exp(flat - safe[:, None]).mean(axis=1))
    return result
