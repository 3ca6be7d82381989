"""The campaign of alerts: how it makes time run faster, and when it is content."""

from __future__ import annotations

import json
import time

import pytest

from loadtests.faults.alert_faults import ENGINE_A, FAULTS, GATEWAY, Fault
from loadtests.faults.alerts import QUIET, Deployment, Result, compressed, table


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"expr": "rate(a_5m[5m])"}, {"expr": "rate(a_5m[10000ms])"}),
        ({"expr": "avg_over_time(a[1d] offset 30m)"}, {"expr": "avg_over_time(a[2880000ms] offset 60000ms)"}),
        ({"for": "2m", "interval": "30s"}, {"for": "4000ms", "interval": "1000ms"}),
        ({"for": "0s", "summary": "lasts 5m"}, {"for": "0ms", "summary": "lasts 5m"}),
    ],
)
def test_windows_and_waiting_times_are_shortened(rule: dict[str, str], expected: dict[str, str]) -> None:
    assert json.loads(compressed(json.dumps(rule), 30)) == expected


def shown(fault: Fault, breaks_in_s: float) -> dict[str, float]:
    now = time.time()
    deployment = Deployment(fault, "n", now - 60, now + breaks_in_s, 60)
    text = deployment.exposition(GATEWAY, now)
    assert text is not None
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines())}


def test_a_deployment_breaks_at_its_moment() -> None:
    [fault] = [each for each in FAULTS if each.alert == "SignetStreamsLost"]
    lost = 'signet_gateway_continuations_total{cause="lost"}'

    assert shown(fault, breaks_in_s=30)[lost] == 0
    assert shown(fault, breaks_in_s=-30)[lost] == 30


def test_what_is_down_does_not_answer_and_what_is_gone_is_not_asked() -> None:
    now = time.time()
    [down] = [each for each in FAULTS if each.down == (GATEWAY,)]
    [gone] = [each for each in FAULTS if each.gone == {GATEWAY: ()}]

    assert Deployment(down, "n", now - 2, now - 1, 60).exposition(GATEWAY, now) is None
    assert Deployment(down, "n", now - 2, now - 1, 60).exposition(ENGINE_A, now)
    paths = {target.path for target in Deployment(gone, "n", now - 2, now - 1, 60).targets("127.0.0.1:1")}
    assert paths == {"/n/engine-a", "/n/engine-b", "/n/drift", "/n/cluster"}


@pytest.mark.parametrize(
    ("after_min", "wrong", "is_right"),
    [(5.0, (), True), (None, (), False), (99.0, (), False), (5.0, ("Other",), False)],
)
def test_late_missing_and_wrong_alerts_are_faults_of_ours(
    after_min: float | None, wrong: tuple[str, ...], is_right: bool
) -> None:
    result = Result(FAULTS[0], after_min, "critical", wrong)

    assert result.is_right is is_right
    assert ("never" in table([result], Result(QUIET, None, "", ()), 30, 24)) is (after_min is None)
