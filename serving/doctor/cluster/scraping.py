"""Whether a Prometheus of the operator's takes up the release's monitors and rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from serving.doctor.cluster.api import OURS, ClusterApi, Object, labels_of, name_of
from serving.doctor.cluster.selectors import selects
from serving.doctor.finding import Finding, NotChecked, error

_GROUP = "apis/monitoring.coreos.com/v1"
_KINDS = (
    (
        "servicemonitors",
        "ServiceMonitor",
        "serviceMonitor",
        "nothing is scraped: dashboards and autoscalers see nothing",
    ),
    ("prometheusrules", "PrometheusRule", "rule", "no alert fires"),
)


def check_scraping(api: ClusterApi) -> Iterator[Finding]:
    """ServiceMonitors and PrometheusRules of the release.

    Raises:
        NotChecked: there are none, or these credentials may not list them.
    """
    if api.get(f"/{_GROUP}") is None:
        raise NotChecked("the Prometheus operator's kinds (monitoring.coreos.com) are not installed")
    objects = {resource: api.items(resource, _GROUP, OURS) for resource, *_ in _KINDS}
    if not any(objects.values()):
        raise NotChecked("the release has no ServiceMonitor and no PrometheusRule")
    servers = (api.get(f"/{_GROUP}/prometheuses") or {"items": ()})["items"]
    namespace = labels_of(api.get(f"/api/v1/namespaces/{api.namespace}") or {"metadata": {}})
    for resource, kind, field, lost in _KINDS:
        for item in objects[resource]:
            if not any(_takes_up(server, field, item, api.namespace, namespace) for server in servers):
                yield error(
                    f"no Prometheus takes up the {kind} {name_of(item)}",
                    lost,
                    f"give it a label that one selects: {_wanted(servers, field)}",
                )


def _takes_up(server: Object, field: str, item: Object, namespace: str, namespace_labels: dict[str, str]) -> bool:
    spec = server["spec"]
    where = spec.get(f"{field}NamespaceSelector")
    # None means the Prometheus' own namespace.
    in_reach = selects(where, namespace_labels) if where is not None else _namespace_of(server) == namespace
    return in_reach and selects(spec.get(f"{field}Selector"), labels_of(item))


def _namespace_of(item: Object) -> str:
    return str(item["metadata"].get("namespace", ""))


def _wanted(servers: Sequence[Object], field: str) -> str:
    described = [
        f"{_namespace_of(server)}/{name_of(server)} wants {dict(labels)} in "
        f"{'its own namespace' if server['spec'].get(f'{field}NamespaceSelector') is None else 'chosen namespaces'}"
        for server in servers
        if (labels := (server["spec"].get(f"{field}Selector") or {}).get("matchLabels")) is not None
    ]
    return "; ".join(described) or "there is no Prometheus object that selects by labels"
