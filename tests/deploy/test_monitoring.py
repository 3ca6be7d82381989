"""What the chart gives Grafana and Prometheus: up to date, and narrowed to the release."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.utils import floatToGoString

from monitoring.alerts import GROUPS
from monitoring.dashboards import DASHBOARDS
from monitoring.telemetry import buckets

ROOT = Path(__file__).resolve().parents[2]
VALUES = {"monitoring": {"dashboards": {"enabled": True}, "rules": {"enabled": True}}}


def test_the_charts_files_are_up_to_date(load_script):
    stale = [
        path.name
        for path, content in load_script("deploy/monitoring_files.py").files().items()
        if path.read_text() != content
    ]

    assert stale == [], "run `python deploy/monitoring_files.py --write`"


def test_nothing_is_made_unless_asked(chart):
    objects = chart.render({})

    assert objects.of("PrometheusRule") == []
    assert [each for each in objects.of("ConfigMap") if "dashboard" in each["metadata"]["name"]] == []


def test_each_dashboard_is_a_config_map_that_the_sidecar_finds(chart):
    objects = chart.render(VALUES)

    for name, dashboard in DASHBOARDS.items():
        made = objects.one("ConfigMap", f"signet-dashboard-{name}")
        assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(made["data"][f"signet-{name}.json"]) == dashboard.json()


def test_the_sidecars_label_and_folder_can_be_chosen(chart):
    values = {
        "monitoring": {
            "dashboards": {
                "enabled": True,
                "labels": {"grafana_dashboard": None, "show": "yes"},
                "annotations": {"grafana_folder": "AI"},
            }
        }
    }

    metadata = chart.render(values).one("ConfigMap", "signet-dashboard-trust")["metadata"]

    assert metadata["labels"]["show"] == "yes"
    assert "grafana_dashboard" not in metadata["labels"]
    assert metadata["annotations"] == {"grafana_folder": "AI"}


def test_rules_by_default_are_those_of_the_file_in_the_releases_namespace(chart):
    [rule] = chart.render(VALUES).of("PrometheusRule")
    expected = {"groups": [group.json() for group in GROUPS]}

    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["spec"] == json.loads(json.dumps(expected).replace('namespace=\\"signet\\"', 'namespace=\\"models\\"'))


def test_two_releases_alert_for_themselves(chart):
    values = {"fullnameOverride": "other", "monitoring": {"rules": {"enabled": True, "labels": {"release": "p"}}}}

    [rule] = chart.render(values).of("PrometheusRule")
    written = json.dumps(rule["spec"])

    assert rule["metadata"]["labels"]["release"] == "p"
    assert 'job=\\"other-gateway\\"' in written
    assert 'job=~\\"other-engine-.+\\"' in written
    assert 'pod=~\\"other-.+\\"' in written
    assert 'horizontalpodautoscaler=~\\"(keda-hpa-)?other-.+\\"' in written
    assert '\\"signet' not in written


def test_jobs_are_the_services_that_are_scraped(chart):
    objects = chart.render({**VALUES, "serviceMonitor": {"enabled": True}})
    written = json.dumps(objects.of("PrometheusRule"))

    services = {each["metadata"]["name"] for each in objects.of("Service")}
    assert services == {"signet-gateway", "signet-engine-default"}
    assert 'job=\\"signet-gateway\\"' in written


@pytest.mark.parametrize("scraped", [True, False])
def test_notes_warn_where_nothing_gives_the_alerts_their_targets(chart, scraped):
    values = {**VALUES, "serviceMonitor": {"enabled": scraped}}

    notes = chart.run("install", "demo", str(ROOT / "deploy/helm/signet"), "--dry-run=client", values=values).stdout

    assert ("set serviceMonitor.enabled" in notes) is not scraped


def test_objectives_reach_rules_and_dashboards(chart):
    objectives = {"availability": 0.99, "firstText": 0.98, "firstTextSeconds": "5.0", "nextText": 0.97,
                  "nextTextSeconds": "0.1"}  # fmt: skip
    values = {"monitoring": {**VALUES["monitoring"], "objectives": objectives}}

    objects = chart.render(values)
    rules = json.dumps(objects.of("PrometheusRule"))
    service = objects.one("ConfigMap", "signet-dashboard-service")["data"]["signet-service.json"]

    assert rules.count("(1 - 0.99)") == rules.count("(1 - 0.98)") == rules.count("(1 - 0.97)") == 8
    assert "(1 - 0.999)" not in rules
    assert "(1 - 0.95)" not in rules
    for written in (rules, service):
        assert 'le=\\"5.0\\"' in written
        assert 'le=\\"0.1\\"' in written
        assert 'le=\\"2.5\\"' not in written
        assert 'le=\\"0.2\\"' not in written
    assert "First text within 5.0 s" in service
    assert "Next text within 0.1 s" in service


def test_runbooks_are_where_the_values_say(chart):
    base = "https://docs.example.com/runbooks"

    [rule] = chart.render({"monitoring": {"rules": {"enabled": True, "runbooks": base}}}).of("PrometheusRule")

    urls = [
        each["annotations"]["runbook_url"]
        for group in rule["spec"]["groups"]
        for each in group["rules"]
        if "alert" in each
    ]
    assert all(url.startswith(f"{base}#signet") for url in urls)


@pytest.mark.parametrize(
    ("objectives", "complaint"),
    [({"firstTextSeconds": "3.0"}, "firstTextSeconds"), ({"availability": 0.9}, "availability"),
     ({"availability": 99.9}, "availability")],
)  # fmt: skip
def test_objectives_that_no_alert_could_watch_are_refused(chart, objectives, complaint):
    result = chart.template({"monitoring": {"objectives": objectives}})

    assert result.returncode != 0
    assert complaint in result.stderr


def test_times_of_objectives_are_bounds_of_the_histograms():
    schema = json.loads((ROOT / "deploy/helm/signet/values.schema.json").read_text())
    properties = schema["properties"]["monitoring"]["properties"]["objectives"]["properties"]

    for name, bounds in (("firstTextSeconds", buckets.TTFT_S), ("nextTextSeconds", buckets.INTER_TOKEN_S)):
        assert set(properties[name]["enum"]) <= {*map(floatToGoString, bounds)}


@pytest.mark.services
@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian package prometheus is not installed")
def test_prometheus_takes_the_charts_rules(chart, tmp_path):
    [rule] = chart.render(VALUES).of("PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))

    checked = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yaml"], capture_output=True, check=False)

    assert checked.returncode == 0, checked.stderr


LAPTOP = ROOT / "deploy" / "dashboards"


def test_a_laptop_mounts_files_that_exist_and_shows_nothing_to_others():
    compose = yaml.safe_load((LAPTOP / "compose.yaml").read_text())

    for service in compose["services"].values():
        assert service["image"].rpartition(":")[2] not in ("", "latest")
        for volume in service["volumes"]:
            source, _, mode = volume.split(":")
            assert (LAPTOP / source).exists()
            assert mode == "ro"
    assert "--web.listen-address=127.0.0.1:9090" in compose["services"]["prometheus"]["command"]
    assert compose["services"]["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


@pytest.mark.services
@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian package prometheus is not installed")
def test_a_laptops_prometheus_takes_its_files(tmp_path):
    shutil.copy(LAPTOP / "prometheus.yaml", tmp_path)
    shutil.copy(ROOT / "deploy/helm/signet/monitoring/rules.yaml", tmp_path)

    checked = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yaml"], capture_output=True, check=False
    )

    assert checked.returncode == 0, checked.stderr


def test_a_laptops_targets_have_the_labels_that_the_rules_ask_for():
    config = yaml.safe_load((LAPTOP / "prometheus.yaml").read_text())

    jobs = [each["job_name"] for each in config["scrape_configs"]]
    assert jobs == ["signet-gateway", "signet-engine-local", "signet-drift"]
    assert {part["labels"]["namespace"] for each in config["scrape_configs"] for part in each["static_configs"]} == {
        "signet"
    }
