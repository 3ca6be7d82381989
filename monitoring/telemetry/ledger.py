"""The ledger's metrics: read from it when they are scraped, so that a record costs nothing but its latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from monitoring.telemetry import buckets, names
from monitoring.telemetry.series import Histogram


class ObservedLedger(Protocol):
    """What the metrics read."""

    num_spilled: int
    on_commit: Callable[[float, int], None]

    @property
    def up(self) -> bool: ...
    @property
    def pending(self) -> int: ...
    @property
    def spilled(self) -> int: ...
    @property
    def schema_mismatch(self) -> bool: ...


class ObservedAnchors(Protocol):
    """What the metrics read of the anchors."""

    @property
    def failures(self) -> Mapping[str, int]: ...
    @property
    def age_s(self) -> float: ...


class _Failures(Collector):
    def __init__(self, anchors: ObservedAnchors) -> None:
        self._anchors = anchors

    def collect(self) -> list[CounterMetricFamily]:
        metric = names.LEDGER_ANCHOR_FAILURES
        family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        for target, count in self._anchors.failures.items():
            family.add_metric([target], count)
        return [family]


class _Spilled(Collector):
    def __init__(self, ledger: ObservedLedger) -> None:
        self._ledger = ledger

    def collect(self) -> list[CounterMetricFamily]:
        metric = names.LEDGER_JOURNALED
        return [CounterMetricFamily(metric.name, metric.help, value=self._ledger.num_spilled)]


def observe_ledger(ledger: ObservedLedger, anchors: ObservedAnchors, registry: CollectorRegistry) -> None:
    """Show `ledger` and its anchors in `registry`."""
    gauges: tuple[tuple[names.Metric, Callable[[], float]], ...] = (
        (names.LEDGER_UP, lambda: ledger.up),
        (names.LEDGER_PENDING, lambda: ledger.pending),
        (names.LEDGER_SPILLED, lambda: ledger.spilled),
        (names.LEDGER_SCHEMA_MISMATCH, lambda: ledger.schema_mismatch),
        (names.LEDGER_ANCHOR_AGE, lambda: anchors.age_s),
    )
    for metric, read in gauges:
        Gauge(metric.name, metric.help, registry=registry).set_function(read)
    registry.register(_Spilled(ledger))
    registry.register(_Failures(anchors))
    # Observed by the ledger's own thread, and by no other.
    ledger.on_commit = Histogram(names.LEDGER_COMMIT, buckets.COMMIT_S, registry).labels().observe
