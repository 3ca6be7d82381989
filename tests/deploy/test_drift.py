"""The drift worker: one pod that keeps what it knows, reads the ledger, and is scraped."""

import pytest
import yaml

VALUES = {
    "drift": {"enabled": True},
    "ledger": {"existingSecret": "db", "port": 6543},
    "serviceMonitor": {"enabled": True},
    "config": {"drift": {"run_length_days": 30}, "prices": {"m": {}}},
    "engines": [{"name": "chat", "model": "chat@1"}],
}


@pytest.fixture(scope="module")
def drift(chart):
    return chart.render(VALUES)


def test_one_worker_keeps_what_it_knows(drift):
    spec = drift.one("Deployment", "signet-drift")["spec"]
    volumes = {volume["name"]: volume for volume in spec["template"]["spec"]["volumes"]}

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert volumes["home"]["persistentVolumeClaim"]["claimName"] == "signet-drift"
    assert drift.one("PersistentVolumeClaim", "signet-drift")["metadata"]["annotations"]["helm.sh/resource-policy"]


def test_it_reads_the_gateways_database_and_the_recorded_references(drift):
    [container] = drift.pod("signet-drift")["spec"]["containers"]
    environment = {variable["name"]: variable for variable in container["env"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}

    assert environment["SIGNET_DATABASE__URL"]["valueFrom"]["secretKeyRef"] == {"name": "db", "key": "url"}
    assert mounts["registry"]["readOnly"]
    assert "--watch" in container["args"]


def test_it_has_its_own_settings_and_no_others(drift):
    settings = yaml.safe_load(drift.one("ConfigMap", "signet-drift")["data"]["signet.yaml"])

    assert settings == {"drift": {"run_length_days": 30}}


def test_it_is_scraped_and_reaches_nothing_but_the_database(drift):
    monitor = drift.one("ServiceMonitor", "signet-drift")["spec"]
    service = drift.one("Service", "signet-drift")
    policy = drift.one("NetworkPolicy", "signet-drift")["spec"]
    ports = [port["port"] for rule in policy["egress"] for port in rule["ports"] if "to" not in rule]

    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert ports == [6543]


def test_without_it_nothing_of_it_is_there(chart):
    objects = chart.render({"serviceMonitor": {"enabled": True}})

    assert [each for each in objects if each["metadata"]["name"].endswith("-drift")] == []


def test_a_ledger_in_a_file_is_refused(chart):
    result = chart.template({"drift": {"enabled": True}})

    assert result.returncode != 0
    assert "set ledger.url (or ledger.existingSecret) to a PostgreSQL database" in result.stderr
