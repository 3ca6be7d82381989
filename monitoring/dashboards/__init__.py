"""Grafana's dashboards, written in Python: queries in, JSON out (`deploy/monitoring_files.py` puts it into the chart).

In come queries by the names of `monitoring.telemetry.names` and of vLLM; out goes what Grafana imports. Nothing here
runs in a process that serves.
"""

from monitoring.dashboards.engines import ENGINES
from monitoring.dashboards.grafana import Dashboard, Panel, Query, Row
from monitoring.dashboards.service import SERVICE
from monitoring.dashboards.trust import TRUST

DASHBOARDS = {"service": SERVICE, "engines": ENGINES, "trust": TRUST}

__all__ = ["DASHBOARDS", "Dashboard", "Panel", "Query", "Row"]
