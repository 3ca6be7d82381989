"""Which checkpoints the engines' pods announce, read through the API server."""

from __future__ import annotations

from collections.abc import Iterator

from serving.doctor.cluster.api import COMPONENT, ClusterApi, conditions_of, labels_of, name_of
from serving.doctor.engines import judge_manifests
from serving.doctor.finding import Finding, NotChecked
from serving.gateway.engines.load import parse_manifests

_ENGINE_PORT = 8100


def check_checkpoints(api: ClusterApi) -> Iterator[Finding]:
    """Ready engines that serve different checkpoints under one name."""
    announced, silent = {}, []
    for pod in api.pods:
        ready = conditions_of(pod).get("Ready") or {}
        if labels_of(pod).get(COMPONENT) != "engine" or ready.get("status") != "True":
            continue
        name = name_of(pod)
        try:
            metrics = api.text(f"/api/v1/namespaces/{api.namespace}/pods/{name}:{_ENGINE_PORT}/proxy/metrics")
        except NotChecked as reason:
            silent.append(f"{name}: {reason}")
            continue
        announced[name] = parse_manifests((metrics or "").encode())
    yield from judge_manifests(announced)
    if silent:
        raise NotChecked("; ".join(silent))
