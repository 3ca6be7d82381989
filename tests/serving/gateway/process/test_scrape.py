"""Metrics of several workers as one exposition that Prometheus' own parser reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from monitoring.telemetry.exposition import OPENMETRICS, TEXT
from serving.gateway.process.scrape import WorkerMetrics


def registry_of(worker: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("signet_requests", "Requests {not a label}.", ["code"], registry=registry).labels("a } b").inc(worker + 1)
    Gauge("signet_open", "Open.", registry=registry).set(10 * worker)
    Histogram("signet_seconds", "Seconds.", buckets=[1.0], registry=registry).observe(0.5, {"trace_id": f"{worker}a"})
    return registry


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("w")


async def samples_of(metrics: WorkerMetrics) -> dict[tuple[str, str, str], float]:
    text = (await metrics.exposition(TEXT)).decode()
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families), "a family was written twice"
    return {
        (sample.name, sample.labels["worker"], sample.labels.get("code", "")): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


async def test_every_worker_shows_the_samples_of_all(folder: Path):
    workers = [WorkerMetrics(registry_of(index), folder, index, 2) for index in range(2)]
    for worker in workers:
        await worker.start()
    try:
        seen = [await samples_of(worker) for worker in workers]
    finally:
        for worker in workers:
            await worker.stop()
    assert seen[0] == seen[1]
    assert seen[0]["signet_requests_total", "0", "a } b"] == 1
    assert seen[0]["signet_requests_total", "1", "a } b"] == 2
    assert seen[0]["signet_open", "1", ""] == 10
    assert seen[0]["signet_seconds_count", "1", ""] == 1


async def test_a_dead_worker_is_left_out_and_its_successor_takes_its_place(folder: Path):
    alive = WorkerMetrics(registry_of(0), folder, 0, 2)
    (folder / "worker-1.sock").touch()
    assert {worker for _, worker, _ in await samples_of(alive)} == {"0"}
    successor = WorkerMetrics(registry_of(1), folder, 1, 2)
    await successor.start()
    try:
        assert {worker for _, worker, _ in await samples_of(alive)} == {"0", "1"}
    finally:
        await successor.stop()


async def test_openmetrics_keeps_its_exemplars_and_ends_once(folder: Path):
    workers = [WorkerMetrics(registry_of(index), folder, index, 2) for index in range(2)]
    for worker in workers:
        await worker.start()
    try:
        text = (await workers[0].exposition(OPENMETRICS)).decode()
    finally:
        for worker in workers:
            await worker.stop()

    families = {family.name: family for family in parse_openmetrics(text)}
    exemplars = {
        sample.labels["worker"]: sample.exemplar.labels
        for sample in families["signet_seconds"].samples
        if sample.exemplar is not None
    }
    assert exemplars == {"0": {"trace_id": "0a"}, "1": {"trace_id": "1a"}}
    assert text.count("# EOF") == 1
