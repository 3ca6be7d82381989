"""The fair queue's series, read from its own counts when somebody scrapes: they cost a request nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from monitoring.telemetry import names


class QueueState(Protocol):
    """The numbers of one moment: requests by model, permits per second by queue, limits by engine, refusals by code."""

    @property
    def waiting(self) -> Mapping[str, int]: ...
    @property
    def running(self) -> Mapping[str, int]: ...
    @property
    def drained_per_s(self) -> Mapping[str, float]: ...
    @property
    def limits(self) -> Mapping[str, int]: ...
    @property
    def refused(self) -> Mapping[str, int]: ...


class QueueCollector(Collector):
    """All series of one gateway process' queue."""

    def __init__(self, registry: CollectorRegistry, state: Callable[[], QueueState]) -> None:
        self._state = state
        registry.register(self)

    def describe(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        for metric in names.QUEUE_METRICS:
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            yield family(metric.name, metric.help, labels=metric.labels)

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        state = self._state()
        values = (state.waiting, state.running, state.drained_per_s, state.limits, state.refused)
        for family, numbers in zip(self.describe(), values, strict=True):
            for label, value in list(numbers.items()):
                family.add_metric([label], value)
            yield family
