"""Autoscalers that cannot act: unknown targets, metrics that nobody serves, queries that return nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from serving.doctor.cluster.api import ClusterApi, Object, conditions_of, name_of, one_line
from serving.doctor.finding import Finding, NotChecked, error, warning

_WHY = "the number of replicas stays what it is, however many requests there are"
_SERVED_BY = {
    "Resource": ("metrics.k8s.io", "metrics-server"),
    "ContainerResource": ("metrics.k8s.io", "metrics-server"),
    "Pods": ("custom.metrics.k8s.io", "prometheus-adapter"),
    "Object": ("custom.metrics.k8s.io", "prometheus-adapter"),
    "External": ("external.metrics.k8s.io", "prometheus-adapter or KEDA"),
}


def check_autoscaling(api: ClusterApi) -> Iterator[Finding]:
    """HorizontalPodAutoscalers and KEDA's ScaledObjects of the release's Deployments."""
    deployments = {name_of(deployment) for deployment in api.deployments}
    groups = {group["name"] for group in (api.get("/apis") or {"groups": ()})["groups"]}
    for autoscaler in api.items("horizontalpodautoscalers", "apis/autoscaling/v2"):
        if autoscaler["spec"]["scaleTargetRef"]["name"] in deployments:
            yield from _autoscaler(api, autoscaler, groups)
    for scaled in api.items("scaledobjects", "apis/keda.sh/v1alpha1"):
        if scaled["spec"]["scaleTargetRef"]["name"] in deployments:
            yield from _scaled_object(api, scaled)


def _autoscaler(api: ClusterApi, autoscaler: Object, groups: set[str]) -> Iterator[Finding]:
    # What is wrong with its metrics says more than that it does not act.
    causes = list(_metrics(api, autoscaler, groups))
    yield from causes or _inaction(autoscaler)
    limited = conditions_of(autoscaler).get("ScalingLimited") or {}
    if limited.get("status") == "True" and limited.get("reason") == "TooManyReplicas":
        yield warning(
            f"autoscaler {name_of(autoscaler)} is at its maximum of {autoscaler['spec']['maxReplicas']} replicas and "
            "wants more",
            "requests wait longer, and are refused when the queue is full",
            "raise autoscaling.maxReplicas",
        )


def _metrics(api: ClusterApi, autoscaler: Object, groups: set[str]) -> Iterator[Finding]:
    name = name_of(autoscaler)
    for metric in autoscaler["spec"].get("metrics") or ():
        group, server = _SERVED_BY.get(metric["type"], ("", ""))
        if group and group not in groups:
            yield error(
                f"autoscaler {name} wants metrics of {group}, which this cluster does not serve",
                f"its target is <unknown>: {_WHY}",
                f"install {server}",
            )
        elif metric["type"] == "External" and _is_empty(api, metric["external"]["metric"]):
            yield error(
                f"autoscaler {name}: the metric {metric['external']['metric']['name']} has no value",
                f"its target is <unknown>: {_WHY}",
                "look at the adapter's rule and at the query behind it: does Prometheus scrape the gateways?",
            )


def _inaction(autoscaler: Object) -> Iterator[Finding]:
    name, conditions = name_of(autoscaler), conditions_of(autoscaler)
    for condition in (conditions.get("ScalingActive") or {}, conditions.get("AbleToScale") or {}):
        # ScalingDisabled is what zero replicas mean.
        if condition.get("status") == "False" and condition.get("reason") != "ScalingDisabled":
            yield error(
                f"autoscaler {name} does not act (targets <unknown>): "
                f"{one_line(condition.get('reason'))}: {one_line(condition.get('message'))}",
                _WHY,
                f"kubectl describe hpa {name}; see to it that its metrics are served",
            )


def _is_empty(api: ClusterApi, metric: Mapping[str, Any]) -> bool:
    labels = (metric.get("selector") or {}).get("matchLabels") or {}
    path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{api.namespace}/{quote(metric['name'], safe='')}"
    values = api.get(path, labelSelector=",".join(f"{label}={value}" for label, value in labels.items()))
    return values is None or not values.get("items")


def _scaled_object(api: ClusterApi, scaled: Object) -> Iterator[Finding]:
    name, conditions = name_of(scaled), conditions_of(scaled)
    ready = conditions.get("Ready") or {}
    if ready.get("status") == "False":
        yield error(
            f"KEDA's ScaledObject {name} is not ready: {one_line(ready.get('message'))}",
            _WHY,
            f"kubectl describe scaledobject {name}",
        )
    for trigger in scaled["spec"].get("triggers") or ():
        if trigger["type"] == "prometheus":
            yield from _query(api, name, trigger["metadata"])


def _query(api: ClusterApi, name: str, trigger: Mapping[str, str]) -> Iterator[Finding]:
    """Ask the trigger's Prometheus, through the API server: its address is known within the cluster alone."""
    parts = urlsplit(trigger["serverAddress"])
    service, _, rest = (parts.hostname or "").partition(".")
    namespace = rest.partition(".")[0] or api.namespace
    proxy = f"/api/v1/namespaces/{namespace}/services/{parts.scheme}:{service}:{parts.port or 80}/proxy"
    answer = api.get(f"{proxy}{parts.path.rstrip('/')}/api/v1/query", query=trigger["query"])
    if answer is None:
        yield error(
            f"KEDA's ScaledObject {name} asks {parts.hostname}, which is not there",
            _WHY,
            "correct serverAddress in its trigger",
        )
    elif answer.get("status") != "success":
        raise NotChecked(f"{parts.hostname} does not understand the query of ScaledObject {name}")
    elif not answer["data"]["result"]:
        yield error(
            f"the query of KEDA's ScaledObject {name} returns nothing",
            _WHY,
            "run it in Prometheus, without its labels first: does Prometheus scrape the gateways?",
        )
