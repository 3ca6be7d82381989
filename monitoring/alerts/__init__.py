"""Alerts for Prometheus, written in Python: conditions in, a rule file out (`deploy/monitoring_files.py` writes it).

In come conditions by the names of `monitoring.telemetry.names`, of vLLM and of kube-state-metrics; out go groups of
rules. Nothing here runs in a process that serves.
"""

from monitoring.alerts import objectives, service, trust
from monitoring.alerts.rule import Alert, Group, Record

GROUPS = (
    *objectives.GROUPS,
    service.GATEWAY,
    service.ENGINE,
    service.SCALING,
    trust.LEDGER,
    trust.GUARD,
    trust.DRIFT,
)

__all__ = ["GROUPS", "Alert", "Group", "Record"]
