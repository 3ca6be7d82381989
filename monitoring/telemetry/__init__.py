"""Metrics, traces and logs: a leaf that every process may use.

In come facts about requests, as numbers and names from bounded sets, never prompt text or secrets; out go
Prometheus series, OpenTelemetry spans and JSON log lines. Nothing here can delay or fail a request.
"""

from monitoring.telemetry.checks import ClassifierMetrics, PolicyMetrics
from monitoring.telemetry.collector import open_tracing
from monitoring.telemetry.ledger import ObservedAnchors, ObservedLedger, observe_ledger
from monitoring.telemetry.logs import LogOutput, configure_logging
from monitoring.telemetry.metrics import GatewayMetrics
from monitoring.telemetry.settings import DriftSettings, TelemetrySettings
from monitoring.telemetry.tracing import RequestTrace, Tracing

__all__ = [
    "ClassifierMetrics",
    "DriftSettings",
    "GatewayMetrics",
    "LogOutput",
    "ObservedAnchors",
    "ObservedLedger",
    "PolicyMetrics",
    "RequestTrace",
    "TelemetrySettings",
    "Tracing",
    "configure_logging",
    "observe_ledger",
    "open_tracing",
]
