"""The worker's gauges: not knowing is NaN, and a ledger that is gone is waited for."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from monitoring.drift import DriftReport, FeatureDrift, LedgerUnreadable
from monitoring.drift.compare import FEATURES
from monitoring.drift.exporter import DriftGauges, watch
from training.registry import UnknownCheckpoint


def a_report(note: str = "", drifted: bool = False) -> DriftReport:
    features = tuple(FeatureDrift(name, 0.1, 0.3, 0.2, 0.5, drifted) for name in FEATURES)
    return DriftReport("bot@1", 0.0, 1000.0, 7, 8, () if note else features, note)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def gauges(registry: CollectorRegistry) -> DriftGauges:
    return DriftGauges(registry, "bot")


def effects(registry: CollectorRegistry) -> list[float | None]:
    return [
        registry.get_sample_value("signet_drift_effect", {"model": "bot", "feature": feature}) for feature in FEATURES
    ]


def test_before_the_first_look_nothing_is_known(gauges: DriftGauges, registry: CollectorRegistry) -> None:
    assert all(value is not None and math.isnan(value) for value in effects(registry))
    assert registry.get_sample_value("signet_drift_last_read_timestamp_seconds") == 0


def test_a_report_is_shown(gauges: DriftGauges, registry: CollectorRegistry) -> None:
    gauges.show(a_report(drifted=True))

    labels = {"model": "bot", "feature": "refusal_rate"}
    assert effects(registry) == [0.2] * 4
    assert registry.get_sample_value("signet_drift_p_value", labels) == 0.5
    assert registry.get_sample_value("signet_drift_detected", labels) == 1
    assert registry.get_sample_value("signet_drift_value", {**labels, "window": "current"}) == 0.3
    assert registry.get_sample_value("signet_drift_value", {**labels, "window": "reference"}) == 0.1
    assert registry.get_sample_value("signet_drift_samples", {"model": "bot", "window": "current"}) == 7
    assert registry.get_sample_value("signet_drift_samples", {"model": "bot", "window": "reference"}) == 8
    assert registry.get_sample_value("signet_drift_last_read_timestamp_seconds") == 1000


def test_too_few_answers_are_nan_and_their_number_is_shown(gauges: DriftGauges, registry: CollectorRegistry) -> None:
    gauges.show(a_report())
    gauges.show(a_report(note="too few"))

    assert all(value is not None and math.isnan(value) for value in effects(registry))
    assert registry.get_sample_value("signet_drift_samples", {"model": "bot", "window": "current"}) == 7


def test_a_ledger_that_is_gone_is_waited_for(
    gauges: DriftGauges, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stopping = threading.Event()
    shown: list[list[float | None]] = []

    def looks() -> Iterator[DriftReport]:
        yield a_report()
        for error in (LedgerUnreadable("locked"), LedgerUnreadable("locked"), UnknownCheckpoint("gone")):
            shown.append(effects(registry))
            yield error  # type: ignore[misc]
        shown.append(effects(registry))
        stopping.set()
        yield a_report()

    sequence = looks()

    def look(_: float) -> DriftReport:
        outcome = next(sequence)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    watch(look, gauges, 0.001, stopping)

    assert shown[0] == [0.2] * 4
    assert all(value is not None and math.isnan(value) for value in shown[-1])
    assert effects(registry) == [0.2] * 4
    said = [record.getMessage() for record in caplog.records]
    assert said == ["drift: comparing", "drift: locked", "drift: gone", "drift: comparing"]
