"""The drift worker: compares the last window again and again, and shows it to Prometheus."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from monitoring.drift.compare import FEATURES, DriftReport
from monitoring.drift.window import LedgerUnreadable
from monitoring.telemetry import names
from monitoring.telemetry.names import Metric
from training.registry import RegistryError

logger = logging.getLogger(__name__)


class DriftGauges:
    """The gauges of one model's report. Not knowing is NaN, never 0: no alert may take it for good news."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        self._model = model
        self._effect = _gauge(names.DRIFT_EFFECT, registry)
        self._p_value = _gauge(names.DRIFT_P_VALUE, registry)
        self._detected = _gauge(names.DRIFT_DETECTED, registry)
        self._value = _gauge(names.DRIFT_VALUE, registry)
        self._samples = _gauge(names.DRIFT_SAMPLES, registry)
        self._last_read = _gauge(names.DRIFT_LAST_READ, registry)
        self.show(None)

    def show(self, report: DriftReport | None) -> None:
        """Show a report; None: there is none, as the ledger or the reference cannot be read."""
        features = {feature.feature: feature for feature in report.features} if report else {}
        for name in FEATURES:
            feature = features.get(name)
            labels = (self._model, name)
            self._effect.labels(*labels).set(feature.effect if feature else math.nan)
            self._p_value.labels(*labels).set(feature.p_value if feature else math.nan)
            self._detected.labels(*labels).set(feature.drifted if feature else math.nan)
            self._value.labels(*labels, "reference").set(feature.reference if feature else math.nan)
            self._value.labels(*labels, "current").set(feature.current if feature else math.nan)
        self._samples.labels(self._model, "current").set(report.samples if report else math.nan)
        self._samples.labels(self._model, "reference").set(report.reference_samples if report else math.nan)
        if report:
            self._last_read.set(report.until)


def watch(
    look: Callable[[float], DriftReport], gauges: DriftGauges, interval_s: float, stopping: threading.Event
) -> None:
    """Show `look(now)` every `interval_s` until `stopping`. A ledger that is locked or absent is waited for."""
    said = ""
    while True:
        try:
            report = look(time.time())
        except (LedgerUnreadable, RegistryError) as error:
            gauges.show(None)
            state = str(error)
        else:
            gauges.show(report)
            state = report.note or "comparing"
        if state != said:  # once, not every interval
            logger.info("drift: %s", state)
        said = state
        if stopping.wait(interval_s):
            return


def _gauge(metric: Metric, registry: CollectorRegistry) -> Gauge:
    return Gauge(metric.name, metric.help, metric.labels, registry=registry)
