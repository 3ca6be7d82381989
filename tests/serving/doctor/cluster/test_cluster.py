"""Findings about a release's objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import signet
from serving.doctor.cluster.api import ClusterApi
from serving.doctor.cluster.autoscaling import check_autoscaling
from serving.doctor.cluster.checkpoints import check_checkpoints
from serving.doctor.cluster.checks import cluster_checks
from serving.doctor.cluster.network import check_network
from serving.doctor.cluster.pods import check_pods
from serving.doctor.cluster.scraping import check_scraping
from serving.doctor.cluster.volumes import check_volumes
from serving.doctor.examine import examine
from serving.doctor.finding import NotChecked
from tests.serving.doctor.cluster_objects import NAMESPACE, ApiServer, ago, named, pod
from tests.serving.doctor.examined import said

AUTOSCALING, APPS = "apis/autoscaling/v2", "apis/apps/v1"
NETWORKING, MONITORING = "apis/networking.k8s.io/v1", "apis/monitoring.coreos.com/v1"


def test_a_sound_release_has_no_problem(api: ClusterApi) -> None:
    outcomes = examine(cluster_checks(api))

    assert [finding for outcome in outcomes for finding in outcome.findings] == []
    assert {outcome.subject: outcome.not_checked for outcome in outcomes if outcome.not_checked} == {
        "scraping": "the Prometheus operator's kinds (monitoring.coreos.com) are not installed"
    }


def test_the_command_looks_at_a_cluster(server: ApiServer, tmp_path: Path) -> None:
    def doctor(*arguments: str) -> Any:
        kubeconfig = str(server.kubeconfig(tmp_path))
        return CliRunner().invoke(signet.cli, ["doctor", "--kubeconfig", kubeconfig, *arguments])

    sound, empty = doctor(), doctor("--namespace", "elsewhere", "--json")
    assert (sound.exit_code, empty.exit_code) == (0, 1)
    assert json.loads(empty.stdout)["findings"][0]["what"] == (
        "there is no release of Signet in the namespace 'elsewhere'"
    )
    server.stop()
    gone = doctor()
    assert gone.exit_code == 1
    assert "the Kubernetes API cannot be reached" in gone.stdout
    assert "hunter2" not in gone.output


def test_credentials_that_may_not_look_are_no_finding(server: ApiServer, api: ClusterApi) -> None:
    server.forbidden = ("/pods",)

    with pytest.raises(NotChecked, match=r"^these credentials may not read pods \(403\)$"):
        list(check_pods(api))


def test_a_clock_that_is_off(server: ApiServer, api: ClusterApi) -> None:
    server.clock_s = 300

    [(severity, what)] = said(api.check())
    assert severity == "warning"
    assert "s ahead of this machine's" in what


def waiting(reason: str, message: str, **more: Any) -> dict[str, Any]:
    return {
        "containerStatuses": [{"name": "engine", "state": {"waiting": {"reason": reason, "message": message}}, **more}]
    }


@pytest.mark.parametrize(
    ("status", "severity", "what"),
    [
        pytest.param(
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
                    }
                ],
                "containerStatuses": [],
            },
            "error",
            "pod p is pending: Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu",
            id="pending",
        ),
        pytest.param(
            waiting(
                "CrashLoopBackOff",
                "back-off 5m0s restarting failed container",
                lastState={"terminated": {"reason": "Error", "exitCode": 1}},
            ),
            "error",
            "container engine of pod p does not run: CrashLoopBackOff: back-off 5m0s restarting failed container; it "
            "last ended with Error, exit code 1",
            id="crashes",
        ),
        pytest.param(
            waiting("CreateContainerConfigError", 'secret "marks" not found'),
            "error",
            'container engine of pod p does not run: CreateContainerConfigError: secret "marks" not found',
            id="secret",
        ),
        pytest.param(
            waiting("ContainerCreating", ""),
            "error",
            'container engine of pod p cannot start: MountVolume.SetUp failed: configmap "x" not found',
            id="mount",
        ),
        pytest.param(
            {
                "containerStatuses": [
                    {
                        "name": "engine",
                        "started": True,
                        "state": {"running": {}},
                        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                    }
                ]
            },
            "warning",
            "container engine of pod p was killed because its memory ran out",
            id="memory",
        ),
        pytest.param(
            {"containerStatuses": [{"name": "engine", "started": True, "state": {"running": {}}, "restartCount": 9}]},
            "warning",
            "container engine of pod p has restarted 9 times",
            id="restarts",
        ),
        pytest.param(
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."},
            "warning",
            "pod p has failed: Evicted: The node was low on resource: ephemeral-storage",
            id="evicted",
        ),
    ],
)
def test_pods_that_do_not_run(
    server: ApiServer, api: ClusterApi, status: dict[str, Any], severity: str, what: str
) -> None:
    server.add("pods", pod("p", "engine", status=status))
    event = {"message": 'MountVolume.SetUp failed: configmap "x" not found', "lastTimestamp": ago(1)}
    server.add("events", {"metadata": {"name": "e"}, "involvedObject": {"name": "p"}, **event})

    assert said(check_pods(api)) == [(severity, what)]


def test_a_pod_that_runs_and_is_not_ready(server: ApiServer, api: ClusterApi) -> None:
    unready = {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": ago(600)}
    server.add("pods", pod("p", "engine", status={"conditions": [unready]}))

    assert said(check_pods(api)) == [("error", "pod p runs and has not been ready for 10 minutes: ContainersNotReady")]


def test_a_pod_that_is_loading_its_model_is_no_problem(server: ApiServer, api: ClusterApi) -> None:
    unready = {"type": "Ready", "status": "False", "lastTransitionTime": ago(900)}
    loading = [{"name": "engine", "started": False, "state": {"running": {}}}]
    server.add("pods", pod("p", "engine", status={"conditions": [unready], "containerStatuses": loading}))

    assert said(check_pods(api)) == []


def test_a_rollout_that_does_not_go_on(server: ApiServer, api: ClusterApi) -> None:
    conditions = [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out."},
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: gpu"},
    ]
    server.add("deployments", named("chat-engine-a", status={"conditions": conditions}), group=APPS)

    assert [what for _, what in said(check_pods(api))] == [
        "the rollout of chat-engine-a does not go on: ProgressDeadlineExceeded: timed out",
        "pods of chat-engine-a cannot be made: FailedCreate: exceeded quota: gpu",
    ]


def autoscaler(*metrics: dict[str, Any], **conditions: tuple[str, str, str]) -> dict[str, Any]:
    listed = [
        {"type": kind, "status": status, "reason": reason, "message": message}
        for kind, (status, reason, message) in conditions.items()
    ]
    spec = {"scaleTargetRef": {"name": "chat-gateway"}, "maxReplicas": 4, "metrics": list(metrics)}
    return named("chat-gateway", spec, {"conditions": listed})


CPU = {"type": "Resource", "resource": {"name": "cpu"}}
WAITING = {"type": "External", "external": {"metric": {"name": "signet_gateway_queue_waiting"}}}
PODS = {"type": "Pods", "pods": {"metric": {"name": "x"}}}
UNKNOWN = ("False", "FailedGetResourceMetric", "unable to get metrics for resource cpu: no metrics returned")


@pytest.mark.parametrize(
    ("item", "findings"),
    [
        pytest.param(autoscaler(CPU, ScalingActive=("True", "", "")), [], id="sound"),
        pytest.param(autoscaler(CPU, ScalingActive=("False", "ScalingDisabled", "")), [], id="at-zero"),
        pytest.param(
            autoscaler(CPU, ScalingActive=UNKNOWN),
            ["autoscaler chat-gateway does not act (targets <unknown>): FailedGetResourceMetric: unable to get metrics "
             "for resource cpu: no metrics returned"],
            id="unknown",
        ),
        pytest.param(
            autoscaler(PODS),
            ["autoscaler chat-gateway wants metrics of custom.metrics.k8s.io, which this cluster does not serve"],
            id="no-adapter",
        ),
        pytest.param(
            autoscaler(WAITING, ScalingActive=UNKNOWN),
            ["autoscaler chat-gateway: the metric signet_gateway_queue_waiting has no value"],
            id="empty",
        ),
        pytest.param(
            autoscaler(CPU, ScalingLimited=("True", "TooManyReplicas", "")),
            ["autoscaler chat-gateway is at its maximum of 4 replicas and wants more"],
            id="maximum",
        ),
    ],
)  # fmt: skip
def test_autoscalers(server: ApiServer, api: ClusterApi, item: dict[str, Any], findings: list[str]) -> None:
    server.objects["/apis"]["groups"].append({"name": "external.metrics.k8s.io"})
    metric = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/signet_gateway_queue_waiting"
    server.objects[metric] = {"items": []}
    server.add("horizontalpodautoscalers", item, group=AUTOSCALING)

    assert [what for _, what in said(check_autoscaling(api))] == findings


@pytest.mark.parametrize(("result", "number"), [([], 1), ([{"metric": {}, "value": [0, "1"]}], 0)])
def test_kedas_queries_are_run(server: ApiServer, api: ClusterApi, result: list[Any], number: int) -> None:
    trigger = {"serverAddress": "http://prometheus.monitoring.svc:9090", "query": "sum(signet_gateway_queue_waiting)"}
    spec = {
        "scaleTargetRef": {"name": "chat-gateway"},
        "triggers": [{"type": "prometheus", "metadata": trigger}],
    }
    server.add("scaledobjects", named("pool", spec), group="apis/keda.sh/v1alpha1")
    proxy = "/api/v1/namespaces/monitoring/services/http:prometheus:9090/proxy/api/v1/query"
    server.objects[proxy] = {"status": "success", "data": {"result": result}}

    whats = [what for _, what in said(check_autoscaling(api))]
    assert whats == ["the query of KEDA's ScaledObject pool returns nothing"] * number


@pytest.mark.parametrize(
    ("spec", "number"),
    [
        ({"dnsPolicy": "Default"}, 1),
        ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, 1),
        ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, 0),
    ],
)
def test_dns_policies(server: ApiServer, api: ClusterApi, spec: dict[str, Any], number: int) -> None:
    server.add("pods", pod("p", "engine", spec=spec))

    whats = [what for _, what in said(check_network(api))]
    assert len(whats) == number
    assert all(what.startswith("pod p asks the node's DNS servers") for what in whats)


def dns(port: int | str, protocol: str = "UDP") -> dict[str, Any]:
    to = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]
    return {"ports": [{"port": port, "protocol": protocol}], "to": to}


@pytest.mark.parametrize(
    ("egress", "dns_port", "blocks"),
    [
        pytest.param([], 53, True, id="nothing"),
        pytest.param([{"ports": [{"port": 8100, "protocol": "TCP"}]}], 53, True, id="another-port"),
        pytest.param([dns(53)], 53, False, id="chart"),
        pytest.param([dns(53, "TCP")], 53, True, id="tcp-alone"),
        pytest.param([dns(53)], 5353, True, id="openshifts-port"),
        pytest.param([dns("dns")], 53, False, id="by-name"),
        pytest.param([{}], 53, False, id="everything"),
        pytest.param([{"to": [{"podSelector": {}}]}], 53, True, id="own-namespace"),
        pytest.param([{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}], 53, False, id="block"),
        pytest.param([{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/24"]}}]}], 53, True, id="but"),
    ],
)
def test_network_policies(
    server: ApiServer, api: ClusterApi, egress: list[dict[str, Any]], dns_port: int, blocks: bool
) -> None:
    ports = [{"containerPort": dns_port, "protocol": "UDP", "name": "dns"}]
    server.objects["/api/v1/namespaces/kube-system/pods"] = [
        {
            "metadata": {"name": "coredns-1", "labels": {"k8s-app": "kube-dns"}},
            "spec": {"containers": [{"ports": ports}]},
            "status": {"podIP": "10.0.0.7"},
        }
    ]
    selector = {"matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "In", "values": ["gateway"]}]}
    policy = {"podSelector": selector, "policyTypes": ["Egress"], "egress": egress}
    server.add("networkpolicies", named("locked", policy), group=NETWORKING)

    whats = [what for _, what in said(check_network(api))]
    assert (
        whats == ["the network policies of gateway pods (locked) let no question through to the DNS servers"] * blocks
    )


def test_claims_without_a_volume_and_full_volumes(server: ApiServer, api: ClusterApi) -> None:
    server.add(
        "persistentvolumeclaims", named("models", status={"phase": "Pending"}), named("data", status={"phase": "Bound"})
    )
    server.add("events", {"metadata": {}, "involvedObject": {"name": "models"}, "message": "no class 'fast'"})
    server.add("pods", pod("p", spec={"volumes": [{"persistentVolumeClaim": {"claimName": "data"}}]}))
    volume = {
        "pvcRef": {"name": "data", "namespace": NAMESPACE},
        "availableBytes": 10**8,
        "capacityBytes": 10**10,
    }
    server.objects["/api/v1/nodes/node-1/proxy/stats/summary"] = {"pods": [{"volume": [volume]}]}

    assert said(check_volumes(api)) == [
        ("error", "the volume claim models is pending: no class 'fast'"),
        ("error", "the volume of claim data is full: 0.1 of 9.3 GB are free"),
    ]


def test_two_checkpoints_under_one_name(server: ApiServer, api: ClusterApi) -> None:
    for number in (1, 2):
        server.add("pods", pod(f"engine-{number}", "engine"))
        digest = f"sha256:{number}" + "0" * 63
        metrics = f'signet_engine_manifest_info{{model="tiny",manifest="{digest}"}} 1\n'
        server.objects[f"/api/v1/namespaces/{NAMESPACE}/pods/engine-{number}:8100/proxy/metrics"] = metrics

    [(severity, what)] = said(check_checkpoints(api))
    assert severity == "error"
    assert what.startswith("engines serve 2 different checkpoints as 'tiny' (sha256:10")


@pytest.mark.parametrize(
    ("selector", "namespaces", "number"),
    [({}, {}, 0), ({"matchLabels": {"release": "prom"}}, {}, 1), ({}, None, 1), (None, {}, 1)],
)
def test_monitors_that_no_prometheus_takes_up(
    server: ApiServer, api: ClusterApi, selector: Any, namespaces: Any, number: int
) -> None:
    server.objects[f"/{MONITORING}"] = {"resources": []}
    server.objects[f"/api/v1/namespaces/{NAMESPACE}"] = {"metadata": {"name": NAMESPACE, "labels": {}}}
    spec = {"serviceMonitorSelector": selector, "serviceMonitorNamespaceSelector": namespaces}
    server.objects[f"/{MONITORING}/prometheuses"] = {
        "items": [{"metadata": {"name": "k8s", "namespace": "monitoring"}, "spec": spec}]
    }
    server.add("servicemonitors", named("chat-gateway"), group=MONITORING)

    assert said(check_scraping(api)) == [("error", "no Prometheus takes up the ServiceMonitor chat-gateway")] * number
