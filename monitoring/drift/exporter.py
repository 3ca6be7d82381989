"""What the drift worker knows, as gauges for Prometheus."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge

from monitoring.drift.standing import Standing, standing
from monitoring.drift.window import LedgerUnreadable
from monitoring.drift.worker import DriftWorker, UnusableState
from monitoring.telemetry import names
from monitoring.telemetry.names import Metric
from monitoring.telemetry.settings import DriftSettings

logger = logging.getLogger(__name__)

_Series = dict[tuple[Metric, tuple[str, ...]], float]


class DriftGauges:
    """Gauges of all watched models. Not knowing is NaN, never 0: no alert may take it for good news."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = {
            metric: Gauge(metric.name, metric.help, metric.labels, registry=registry) for metric in names.DRIFT_METRICS
        }
        self._shown: _Series = {}

    def show(self, standings: Iterable[Standing], now: float) -> None:
        """Show how each stands; series of those that are watched no more go."""
        series: _Series = {}
        for own in standings:
            series |= _series(own)
        for metric, labels in self._shown.keys() - series.keys():
            self._gauges[metric].remove(*labels)
        self._set(series)
        self._gauges[names.DRIFT_LAST_READ].set(now)

    def forget(self) -> None:
        """Nothing is known now: the ledger cannot be read. When it was last read stays."""
        self._set(dict.fromkeys(self._shown, math.nan))

    def _set(self, series: _Series) -> None:
        for (metric, labels), value in series.items():
            self._gauges[metric].labels(*labels).set(value)
        self._shown = series


def watch(worker: DriftWorker, gauges: DriftGauges, settings: DriftSettings, stopping: threading.Event) -> None:
    """Look and show again and again until `stopping`. A ledger that is locked or absent is waited for."""
    said = ""
    while True:
        now = time.time()
        try:
            worker.look(now)
        except (LedgerUnreadable, UnusableState) as error:
            gauges.forget()
            state = str(error)
        else:
            gauges.show([standing(own, now, settings) for own in worker.watched.values()], now)
            state = f"watching {len(worker.watched)} models and versions"
        if state != said:  # once, not every interval
            logger.info("drift: %s", state)
        said = state
        if stopping.wait(0 if worker.is_behind else settings.interval_s):
            return


def _series(standing: Standing) -> _Series:
    model = (standing.model, standing.version.removeprefix("sha256:")[:12])
    series: _Series = {
        (names.DRIFT_SAMPLES, (*model, "reference")): standing.reference_samples,
        (names.DRIFT_SAMPLES, (*model, "current")): standing.samples,
    }
    for own in standing.features:
        labels = (*model, own.feature)
        series |= {
            (names.DRIFT_EFFECT, labels): own.effect,
            (names.DRIFT_P_VALUE, labels): own.p_value,
            (names.DRIFT_DETECTED, labels): math.nan if own.drifted is None else float(own.drifted),
            (names.DRIFT_EVIDENCE, labels): own.evidence_s,
            (names.DRIFT_SINCE, labels): own.since,
            (names.DRIFT_VALUE, (*labels, "reference")): own.reference,
            (names.DRIFT_VALUE, (*labels, "current")): own.current,
        }
    return series
