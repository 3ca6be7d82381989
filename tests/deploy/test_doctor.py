"""`signet doctor` has nothing to say of a release that runs as the chart makes it, whatever its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving.doctor.cluster.api import ClusterApi
from serving.doctor.cluster.checks import cluster_checks
from serving.doctor.examine import examine
from tests.serving.doctor.cluster_objects import ApiServer, ago

NAMESPACE = "models"
RUNNING = {
    "phase": "Running",
    "conditions": [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True", "lastTransitionTime": ago(3600)},
    ],
    "containerStatuses": [{"name": "c", "started": True, "restartCount": 0, "state": {"running": {}}}],
}
RESOURCES = {
    "PersistentVolumeClaim": ("persistentvolumeclaims", {"phase": "Bound"}),
    "HorizontalPodAutoscaler": (
        "horizontalpodautoscalers",
        {"conditions": [{"type": "ScalingActive", "status": "True"}, {"type": "AbleToScale", "status": "True"}]},
    ),
    "NetworkPolicy": ("networkpolicies", {}),
    "Deployment": ("deployments", {"conditions": [{"type": "Progressing", "status": "True"}]}),
    "ServiceMonitor": ("servicemonitors", {}),
    "PrometheusRule": ("prometheusrules", {}),
}
OPERATOR = "apis/monitoring.coreos.com/v1"


def as_it_runs(objects: Any) -> ApiServer:
    """A cluster that has done with these objects what it should."""
    server = ApiServer(NAMESPACE)
    server.objects["/version"] = {"gitVersion": "v1.37.0"}
    server.objects["/apis"] = {
        "groups": [{"name": f"{kind}metrics.k8s.io"} for kind in ("", "custom.", "external.")],
    }
    for item in objects:
        if item["kind"] in RESOURCES:
            resource, status = RESOURCES[item["kind"]]
            version = item["apiVersion"]
            group = f"apis/{version}" if "/" in version else f"api/{version}"
            server.add(resource, {**item, "status": status}, group=group)
    for number, template in enumerate(objects.pods()):
        metadata = {**template["metadata"], "name": f"pod-{number}", "namespace": NAMESPACE}
        server.add(
            "pods", {"metadata": metadata, "spec": {"nodeName": "node-1", **template["spec"]}, "status": RUNNING}
        )
        server.objects[f"/api/v1/namespaces/{NAMESPACE}/pods/pod-{number}:8100/proxy/metrics"] = "\n"
    metrics = [metric for scaler in objects.of("HorizontalPodAutoscaler") for metric in scaler["spec"]["metrics"]]
    for name in (metric["external"]["metric"]["name"] for metric in metrics if metric["type"] == "External"):
        path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/{name}"
        server.objects[path] = {"items": [{"value": "1"}]}
    everything = {"serviceMonitorSelector": {}, "serviceMonitorNamespaceSelector": {}}
    everything |= {"ruleSelector": {}, "ruleNamespaceSelector": {}}
    server.objects[f"/{OPERATOR}"] = {"resources": []}
    server.objects[f"/{OPERATOR}/prometheuses"] = {
        "items": [{"metadata": {"name": "k8s", "namespace": "monitoring"}, "spec": everything}]
    }
    return server


def test_a_release_as_the_chart_makes_it_has_no_problem(objects: Any, tmp_path: Path) -> None:
    server = as_it_runs(objects)
    try:
        with ClusterApi(server.kubeconfig(tmp_path), None) as api:
            outcomes = examine(cluster_checks(api))
            num_pods = len(api.pods)
    finally:
        server.stop()

    assert num_pods == len(objects.pods())
    assert [(outcome.subject, finding.what) for outcome in outcomes for finding in outcome.findings] == []
    failed = [outcome for outcome in outcomes if "check itself failed" in outcome.not_checked]
    assert failed == []
