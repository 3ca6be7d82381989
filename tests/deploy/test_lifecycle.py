"""Starting and stopping: no probe kills a slow load, no deadline cuts a drain."""

from pathlib import Path

import pytest
import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "signet"
KUBERNETES_DEADLINE_S = 600
"""Of a Deployment's progress, unless it says another."""


def test_grace_period_covers_both_phases(objects):
    for deployment in objects.of("Deployment"):
        if deployment["metadata"]["name"] == "signet-drift":  # no client waits for it
            continue
        spec = deployment["spec"]["template"]["spec"]
        waiting = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        settings = yaml.safe_load(objects.settings_file(deployment["metadata"]["name"]))
        gateway = settings.get("gateway", {})
        drain = (
            gateway.get("drain_delay_s", 0) + gateway["drain_timeout_s"] if gateway else settings["engine"]["drain_s"]
        )
        assert spec["terminationGracePeriodSeconds"] >= waiting + drain + 10


def test_a_start_may_take_as_long_as_it_says(objects):
    for deployment in objects.of("Deployment"):
        name = deployment["metadata"]["name"]
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        startup = container["startupProbe"]
        allowance = startup["periodSeconds"] * startup["failureThreshold"]
        settings = yaml.safe_load(objects.settings_file(name))
        if "engine" in settings:
            assert allowance >= settings["engine"]["start_timeout_s"] >= 600
        else:
            assert allowance >= 30
        assert deployment["spec"].get("progressDeadlineSeconds", KUBERNETES_DEADLINE_S) > allowance


def test_liveness_is_patient_and_asks_for_the_process_alone(objects):
    for pod in objects.pods():
        [container] = pod["spec"]["containers"]
        liveness = container["livenessProbe"]
        assert liveness["httpGet"] == container["startupProbe"]["httpGet"]
        assert liveness["httpGet"]["path"] != "/readyz"
        assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60


def test_startup_seconds_round_up(chart):
    objects = chart.render({"engineDefaults": {"startupSeconds": 601}})

    [container] = objects.pod("signet-engine-default")["spec"]["containers"]
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 601


@pytest.mark.parametrize(("delay", "expected"), [(None, 620), (60, 680), (0.5, 621)])
def test_grace_period_has_room_for_the_delay_of_the_settings(chart, delay, expected):
    objects = chart.render({"config": {} if delay is None else {"gateway": {"drain_delay_s": delay}}})

    assert objects.pod("signet-gateway")["spec"]["terminationGracePeriodSeconds"] == expected


def test_a_gateway_drains_as_long_as_answers_last(chart):
    """Two thousand tokens take minutes; engines have a shorter time, since another one finishes their answers."""
    settings = yaml.safe_load(chart.render({}).settings_file("signet-gateway"))

    assert settings["gateway"]["drain_timeout_s"] >= 600


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        pytest.param({}, (1, 0), id="cpu"),
        pytest.param({"gpus": 1}, (0, 1), id="gpu"),
        pytest.param({"gpus": 1, "rollout": {"maxSurge": 1}}, (1, 0), id="spare-gpu"),
        pytest.param({"gpus": 1, "rollout": {"maxSurge": "25%"}}, ("25%", 0), id="spare-gpus"),
        pytest.param({"gpus": 1, "rollout": {"maxUnavailable": 0}}, (1, 0), id="none-may-be-missing"),
        pytest.param({"gpus": 1, "rollout": {"maxUnavailable": 2}}, (0, 2), id="two-at-a-time"),
        pytest.param({"rollout": {"maxSurge": 0}}, (0, 1), id="no-room"),
        pytest.param({"rollout": {"maxUnavailable": 1}}, (1, 1), id="both"),
    ],
)
def test_an_update_waits_for_no_gpu_that_is_not_there(chart, pool, expected):
    objects = chart.render({"engines": [{"name": "a", "model": "m@1", **pool}]})

    strategy = objects.one("Deployment", "signet-engine-a")["spec"]["strategy"]["rollingUpdate"]
    assert (strategy["maxSurge"], strategy["maxUnavailable"]) == expected


def test_spread_counts_only_nodes_that_tolerate_the_pods(objects):
    for pod in objects.pods():
        for constraint in pod["spec"].get("topologySpreadConstraints", []):
            assert constraint["nodeTaintsPolicy"] == "Honor"


def test_production_scales_out_when_its_workers_are_busy(chart):
    values = yaml.safe_load((CHART / "examples" / "production.yaml").read_text())
    objects = chart.render(values)
    [container] = objects.pod("signet-gateway")["spec"]["containers"]

    assert float(container["resources"]["requests"]["cpu"]) == values["gateway"]["workers"] == 2
