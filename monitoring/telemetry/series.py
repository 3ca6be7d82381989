"""Prometheus counters and histograms for one writing thread.

`prometheus_client`'s take a lock for each observation, three for a histogram, which also walks its buckets; every
streamed token makes one. These do a lookup and an addition, and take a weight. Scrapes may come from another
thread: they read whole numbers, at worst one observation apart. Label values must come from bounded sets.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from monitoring.telemetry.names import Metric

# What a label says when its value is not from the known set, or when a set has grown too large.
OTHER = "other"
_MAX_SERIES = 500
# Of a histogram each is some twenty series.
_MAX_EXPECTED_CHILDREN = 32


class Counter(Collector):
    """One counter family. Should label values not be bounded after all, late comers count as `other`."""

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._metric = metric
        self._values: dict[tuple[str, ...], float] = dict.fromkeys(metric.known, 0.0)
        registry.register(self)

    def expect(self, *labels: str) -> None:
        """Show `labels` with 0 until they are counted. Half of the room is kept for what nobody expected."""
        if len(self._values) < _MAX_SERIES // 2:
            self._values.setdefault(labels, 0.0)

    def add(self, amount: float, *labels: str) -> None:
        """Count `amount` more for `labels`, in the order of the metric's."""
        values = self._values
        if labels not in values and len(values) >= _MAX_SERIES:
            labels = (OTHER,) * len(labels)
        values[labels] = values.get(labels, 0.0) + amount

    def describe(self) -> Iterable[CounterMetricFamily]:
        return [CounterMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)]

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)
        for labels, value in list(self._values.items()):
            family.add_metric(labels, value)
        return [family]


class HistogramChild:
    """The series of one combination of label values."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, tuple[str, float, float]] = {}
        """The last traced observation of each bucket, by the bucket's index: trace id, value, Unix time."""

    def observe(self, value: float, weight: int = 1, trace_id: str = "") -> None:
        """Count `value` `weight` times; `trace_id` names a trace in which it can be looked at."""
        index = bisect_left(self.bounds, value)
        self.counts[index] += weight
        self.total += value * weight
        if trace_id:
            self.exemplars[index] = (trace_id, value, time.time())


class Histogram(Collector):
    """One histogram family; children are kept for ever, so label values must come from a bounded set."""

    def __init__(self, metric: Metric, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._metric = metric
        self._bounds = tuple(bounds)
        self._bound_names = [*map(floatToGoString, self._bounds), "+Inf"]
        self._children: dict[tuple[str, ...], HistogramChild] = {}
        registry.register(self)

    def expect(self, *values: str) -> None:
        """Show `values` with 0 until they are observed. Half of the room is kept for what nobody expected."""
        if len(self._children) < _MAX_EXPECTED_CHILDREN:
            self.labels(*values)

    def labels(self, *values: str) -> HistogramChild:
        """The child for `values`, in the order of the metric's labels; keep it where it is used often."""
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self._metric.labels):
                raise ValueError(f"{self._metric.name} has the labels {self._metric.labels}, not {values}")
            child = self._children[values] = HistogramChild(self._bounds)
        return child

    def describe(self) -> Iterable[HistogramMetricFamily]:
        return [HistogramMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)
        for values, child in list(self._children.items()):
            cumulative = zip(self._bound_names, accumulate(child.counts), strict=True)
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            for index, (bound, count) in enumerate(cumulative):
                if (traced := child.exemplars.get(index)) is None:
                    buckets.append((bound, float(count)))
                else:
                    trace_id, value, moment = traced
                    buckets.append((bound, float(count), Exemplar({"trace_id": trace_id}, value, moment)))
            family.add_metric(values, buckets, child.total)
        return [family]
