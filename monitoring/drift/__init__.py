"""Drift: is today's traffic like the traffic the checkpoint was released for?

In come the ledger's `requests` table, read with its own SELECT, and the drift reference of a checkpoint's signed
manifest; out go a report, or gauges `signet_drift_*`. Lengths and rates only, no text; off the request path.
"""

from monitoring.drift.compare import DriftReport, FeatureDrift, compare
from monitoring.drift.window import LedgerReader, LedgerUnreadable, Window

__all__ = ["DriftReport", "FeatureDrift", "LedgerReader", "LedgerUnreadable", "Window", "compare"]
