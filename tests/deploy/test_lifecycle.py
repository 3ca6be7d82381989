"""Starting and stopping: no probe kills a slow load, no deadline cuts a drain."""

import yaml


def test_grace_period_covers_both_phases(objects):
    for deployment in objects.of("Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        waiting = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        settings = yaml.safe_load(objects.settings_file(deployment["metadata"]["name"]))
        drain = settings["gateway"]["drain_timeout_s"] if "gateway" in settings else settings["engine"]["drain_s"]
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
            assert deployment["spec"]["progressDeadlineSeconds"] > allowance
        else:
            assert allowance >= 30


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
