"""Every object of every case is valid Kubernetes, by the schemas of several versions."""

import copy
import json
from collections import Counter
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

# The oldest that Chart.yaml allows, one between, the newest that the validator knows.
VERSIONS = ("1.30", "1.34", "1.37")

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "signet"

# The validator reads a megabyte of schemas anew for each object.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)


@cache
def valid_by(written: str, version: str) -> str:
    """The version whose schema an object fits. Many cases have the same objects, and each takes a tenth of a second."""
    return str(kubernetes_validate.validate(json.loads(written), version, strict=True))


def test_lint_finds_nothing(chart, values):
    result = chart.lint(values)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "[WARNING]" not in result.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(objects, version):
    for each in objects:
        if each["kind"] not in ("ServiceMonitor", "PrometheusRule", "HTTPRoute"):
            assert valid_by(json.dumps(each, sort_keys=True), version) == version


def test_validation_notices_a_typo(chart):
    deployment = copy.deepcopy(chart.render({}).of("Deployment")[0])
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_service_monitors_have_the_operators_shape(objects):
    """The validator has no schema of custom resources: this is monitoring.coreos.com/v1 by hand."""
    for monitor in objects.of("ServiceMonitor"):
        assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
        assert set(monitor["spec"]) == {"selector", "namespaceSelector", "endpoints"}
        assert set(monitor["spec"]["selector"]) == {"matchLabels"}
        for endpoint in monitor["spec"]["endpoints"]:
            assert set(endpoint) <= {"port", "path", "interval", "relabelings", "scheme", "tlsConfig"}
            for relabeling in endpoint.get("relabelings", []):
                assert set(relabeling) == {"sourceLabels", "targetLabel"}


def test_names_are_unique_and_fit(objects):
    names = Counter((each["kind"], each["metadata"]["name"]) for each in objects)

    assert set(names.values()) == {1}
    # Only a ConfigMap's may be as long as a domain.
    assert max(len(name) for kind, name in names if kind != "ConfigMap") <= 63
    assert {each["metadata"]["namespace"] for each in objects} == {"models"}


def test_defaults_have_every_part(chart):
    kinds = Counter(each["kind"] for each in chart.render({}))

    assert kinds == {
        "ConfigMap": 2,
        "Deployment": 2,
        "HorizontalPodAutoscaler": 2,
        "NetworkPolicy": 2,
        "PersistentVolumeClaim": 1,
        "PodDisruptionBudget": 2,
        "Secret": 1,
        "Service": 2,
        "ServiceAccount": 1,
    }


def test_rendering_twice_gives_the_same(chart, values, objects):
    once, again = copy.deepcopy(objects), chart.render(values)

    # The key that is made where no cluster is asked (docs/guides/deploy.md).
    for secret in [*once.of("Secret"), *again.of("Secret")]:
        if secret["metadata"]["name"].endswith("-engine-key") and "engineKey" not in values:
            assert secret["data"].pop("key")
    assert once == again


def test_every_part_can_be_switched_off(chart):
    values = yaml.safe_load(
        """
        gateway: {autoscaling: {enabled: false}, disruptionBudget: {enabled: false}}
        engineDefaults: {autoscaling: {enabled: false}, disruptionBudget: {enabled: false}}
        networkPolicy: {enabled: false}
        serviceAccountName: default
        """
    )

    kinds = {each["kind"] for each in chart.render(values)}

    assert kinds == {"ConfigMap", "Deployment", "PersistentVolumeClaim", "Secret", "Service"}


def test_notes_say_what_to_do_next(chart):
    result = chart.run("install", "demo", str(CHART), "--namespace", "models", "--dry-run=client", values={})
    notes = result.stdout.partition("NOTES:")[2]

    assert "http://demo-signet-gateway.models:8000/v1" in notes
    assert "exec deployment/demo-signet-gateway -- signet keys create --tenant demo" in notes
    assert "No answer is marked" in notes
