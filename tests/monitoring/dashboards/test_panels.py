"""Every panel has data: a real Prometheus scrapes a gateway and the real engine, with an operator's target labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from loadtests.tools.panels import asked
from loadtests.tools.watched import watched
from monitoring.dashboards import DASHBOARDS
from tests.support.engine_client import ENGINE_KEY
from tests.support.stack import DEFAULT_MODEL, Stack, fresh_home

pytestmark = pytest.mark.engine

SECONDS = 8.0


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian package prometheus is not installed")
def test_every_query_of_every_panel_has_data(
    stack: Stack, prepared_home: Path, keyring_path: Path, tmp_path: Path
) -> None:
    home = fresh_home(prepared_home, tmp_path / "home")
    shutil.copy(keyring_path, home / "keyring.json")
    empty = []

    with watched(home, stack.engine_url, DEFAULT_MODEL, SECONDS, {"engine_api_key": ENGINE_KEY}) as (prometheus, *span):
        for dashboard in DASHBOARDS.values():
            empty += asked(dashboard, prometheus, *span, rate_interval="6s")[1]
        endpoints = {line.labels["endpoint"] for line in prometheus.query("signet_gateway_in_flight")}
        routes = {line.labels["route"] for line in prometheus.query("signet_gateway_requests_total > 0")}

    assert empty == []
    # The operator's label and ours, each as it was meant.
    assert (endpoints, routes) == ({"http"}, {"chat"})
