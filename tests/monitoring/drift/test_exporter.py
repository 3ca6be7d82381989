"""The worker's gauges: not knowing is NaN, and a ledger that is gone is waited for."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from monitoring.drift import LedgerUnreadable
from monitoring.drift.exporter import DriftGauges, watch
from monitoring.drift.features import FEATURE_NAMES
from monitoring.drift.standing import Standing, standing
from monitoring.drift.watched import Watched
from monitoring.drift.worker import UnusableState
from monitoring.telemetry import DriftSettings
from tests.support.drift_answers import answers

SETTINGS = DriftSettings(reference_days=0.25, reference_samples=700, interval_s=0.001)
START = 1_000_000.0
VERSION = "sha256:" + "ab" * 32
LABELS = {"model": "bot", "version": "abababababab"}


@pytest.fixture(scope="module")
def watched() -> Watched:
    """Prompts have become longer."""
    watched = Watched("bot", VERSION, SETTINGS)
    watched.add(answers(721, START, version=VERSION))
    watched.add(answers(200, START + 721 * 30, version=VERSION, seed=2, scale=3.0))
    return watched


@pytest.fixture
def drifted(watched: Watched) -> Standing:
    return standing(watched, watched.last_at, SETTINGS)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def gauges(registry: CollectorRegistry) -> DriftGauges:
    return DriftGauges(registry)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    found = registry.get_sample_value(f"signet_drift_{name}", {**LABELS, **labels})
    assert found is not None, (name, labels)
    return found


def test_what_is_known_is_shown(gauges: DriftGauges, registry: CollectorRegistry, drifted: Standing) -> None:
    gauges.show([drifted], 5000.0)

    assert value(registry, "detected", feature="prompt_tokens") == 1
    assert value(registry, "detected", feature="refusal_rate") == 0
    assert abs(value(registry, "since_timestamp_seconds", feature="prompt_tokens") - (START + 721 * 30)) < 1800
    assert value(registry, "since_timestamp_seconds", feature="refusal_rate") == 0
    assert value(registry, "effect", feature="prompt_tokens") > 0.2
    assert value(registry, "p_value", feature="prompt_tokens") < 0.001
    current, reference = (
        value(registry, "value", feature="prompt_tokens", window=window) for window in ("current", "reference")
    )
    assert 2 < current / reference < 4.5
    assert value(registry, "samples", window="reference") == 721
    assert value(registry, "evidence_seconds", feature="refusal_rate") < 365 * 86_400
    assert registry.get_sample_value("signet_drift_last_read_timestamp_seconds") == 5000


def test_what_is_not_watched_is_nan(gauges: DriftGauges, registry: CollectorRegistry, drifted: Standing) -> None:
    collecting = standing(Watched("bot", VERSION, SETTINGS), START, SETTINGS)
    gauges.show([collecting], 1.0)

    for name in ("detected", "effect", "p_value", "evidence_seconds"):
        assert all(math.isnan(value(registry, name, feature=feature)) for feature in FEATURE_NAMES)
    assert value(registry, "samples", window="current") == 0

    gauges.show([drifted], 2.0)
    assert math.isnan(value(registry, "detected", feature="rating"))


def test_series_of_models_that_are_gone_go(gauges: DriftGauges, registry: CollectorRegistry, drifted: Standing) -> None:
    gauges.show([drifted, dataclasses.replace(drifted, model="cat")], 1.0)
    gauges.show([drifted], 2.0)

    shown = {sample.labels.get("model") for family in registry.collect() for sample in family.samples}
    assert shown == {"bot", None}


class Worker:
    """Looks as it is told to."""

    is_behind = False

    def __init__(self, watched: Watched, looks: list[Callable[[], None]]) -> None:
        self.watched = {("bot", VERSION): watched}
        self._looks = iter(looks)

    def look(self, now: float) -> None:
        next(self._looks)()


def test_a_ledger_that_is_gone_is_waited_for(
    gauges: DriftGauges, registry: CollectorRegistry, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stopping = threading.Event()
    shown: list[float] = []

    def note() -> None:
        shown.append(value(registry, "samples", window="reference"))

    def fail(error: Exception) -> None:
        note()
        raise error

    looks = [
        lambda: None,
        lambda: fail(LedgerUnreadable("locked")),
        lambda: fail(LedgerUnreadable("locked")),
        lambda: fail(UnusableState("full")),
        note,
        stopping.set,
    ]

    watch(Worker(watched, looks), gauges, SETTINGS, stopping)  # type: ignore[arg-type]

    assert shown[0] == 721
    assert all(math.isnan(number) for number in shown[1:])
    assert value(registry, "samples", window="reference") == 721
    said = [record.getMessage() for record in caplog.records]
    watching = "drift: watching 1 models and versions"
    assert said == [watching, "drift: locked", "drift: full", watching]
