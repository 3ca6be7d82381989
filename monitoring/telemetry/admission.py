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
    """All series of one gateway process' queue. `models` are there with 0 before anybody has asked them anything."""

    def __init__(
        self, registry: CollectorRegistry, state: Callable[[], QueueState], models: Callable[[], Iterable[str]]
    ) -> None:
        self._state = state
        self._models = models
        registry.register(self)

    def describe(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        for metric in names.QUEUE_METRICS:
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            yield family(metric.name, metric.help, labels=metric.labels)

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        state = self._state()
        idle = dict.fromkeys(self._models(), 0)
        refused = {reason: 0 for (reason,) in names.QUEUE_REFUSED.known} | dict(state.refused)
        values = (
            idle | dict(state.waiting),
            idle | dict(state.running),
            state.drained_per_s,
            state.limits,
            refused,
        )
        for family, numbers in zip(self.describe(), values, strict=True):
            for label, value in list(numbers.items()):
                family.add_metric([label], value)
            yield family
