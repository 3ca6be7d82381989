"""Which tracing the settings ask for."""

from __future__ import annotations

from monitoring.telemetry.settings import TelemetrySettings
from monitoring.telemetry.tracing import Tracing


def open_tracing(settings: TelemetrySettings) -> Tracing:
    """Tracing to the configured collector, or the null object when there is none."""
    if settings.otlp_endpoint is None:
        return Tracing()
    from monitoring.telemetry.otel import ExportedTracing  # a quarter of a second to import

    return ExportedTracing(settings)
