"""Settings of telemetry and of the drift worker."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TelemetrySettings(BaseModel):
    """Traces and logs."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/]")
    """Base URL of an OTLP/HTTP collector, such as http://localhost:4318; unset: no traces are made."""

    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of traces kept where the client has not decided already."""

    service_name: str | None = None
    """`service.name` of the traces; unset: OTEL_SERVICE_NAME, else signet-gateway."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe lines to write; at debug, messages of exceptions are written too, and they may quote input."""

    log_format: Literal["json", "text"] = "json"
    """One JSON object a line, or text for a terminal."""


class DriftSettings(BaseModel):
    """The drift worker."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    enabled: bool = True
    """Whether `signet serve` runs the drift worker beside the gateway."""

    reference: str | None = None
    """Checkpoint whose reference is compared with, NAME or NAME@VERSION."""

    host: str = "127.0.0.1"
    """Address on which the worker's `/metrics` listens."""

    port: int = Field(default=9464, ge=0, le=65535)
    """Port on which the worker's `/metrics` listens; 0 takes a free one."""

    window_s: float = Field(default=3600.0, gt=0)
    """How far back the current window reaches, seconds."""

    interval_s: float = Field(default=30.0, gt=0)
    """How often the worker reads the ledger, seconds."""

    run_length_days: float = Field(default=365.0, ge=1)
    """Least mean time between false alarms of one model and version, all features together, days."""

    tolerance: float = Field(default=0.05, ge=0, le=1)
    """Change that is no drift: standardized, as Cohen's d of lengths and h of rates."""

    reference_days: float = Field(default=7.0, gt=0)
    """Without a recorded reference, a model's first answers are its reference: those of so many days, at least."""

    reference_samples: int = Field(default=1000, ge=100)
    """And so many answers, at least."""

    hold_s: float = Field(default=86_400.0, gt=0)
    """How long a feature counts as drifted after the last alarm, seconds. Drift that stays raises it again."""

    min_samples: int = Field(default=100, ge=2)
    """Fewer answers than this, on either side, are not compared, and a feature that the reference has seen less often
    is not watched: gauges are NaN then."""

    psi_threshold: float = Field(default=0.2, gt=0)
    """Population stability index from which a length distribution counts as drifted, if it is significant."""

    rate_threshold: float = Field(default=0.05, gt=0, le=1)
    """Absolute change of a rate from which it counts as drifted, if it is significant."""

    significance: float = Field(default=0.001, gt=0, lt=1)
    """Largest p-value that is significant. Small, since the test is repeated with every window."""
