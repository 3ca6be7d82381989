"""A cluster with one sound gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.doctor.cluster.api import ClusterApi
from tests.serving.doctor.cluster_objects import SELECTED, ApiServer, named, pod


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A namespace with one sound gateway."""
    server = ApiServer()
    server.objects["/version"] = {"gitVersion": "v1.37.0"}
    server.objects["/apis"] = {"groups": [{"name": "apps"}, {"name": "metrics.k8s.io"}]}
    server.add("pods", pod("chat-gateway-1"))
    server.add("deployments", named("chat-gateway", {"selector": {"matchLabels": SELECTED}}), group="apis/apps/v1")
    yield server
    server.stop()


@pytest.fixture
def api(server: ApiServer, tmp_path: Path) -> Iterator[ClusterApi]:
    with ClusterApi(server.kubeconfig(tmp_path), None) as api:
        yield api
