"""Settings of the engine pool: where engines are found, how they are reached, when one counts as ill."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class EngineTlsSettings(BaseModel):
    """Certificates for engines at https:// addresses."""

    model_config = ConfigDict(extra="forbid")

    ca: Path | None = Field(
        default=None, description="PEM file of the authorities that sign engines' certificates; default: the system's."
    )
    certificate: Path | None = Field(
        default=None, description="PEM file of the gateway's own certificate, for engines that ask for one (mTLS)."
    )
    key: Path | None = Field(
        default=None, description="PEM file of the certificate's key; default: it is in the certificate's file."
    )

    @model_validator(mode="after")
    def _key_has_certificate(self) -> EngineTlsSettings:
        if self.key is not None and self.certificate is None:
            raise ValueError("a key without a certificate is of no use: give engine_tls.certificate too")
        return self


class CircuitSettings(BaseModel):
    """When failing traffic takes an engine out, and for how long."""

    model_config = ConfigDict(extra="forbid")

    consecutive_failures: int = Field(
        default=5, ge=1, description="Failures in a row that open an engine's circuit: errors, timeouts, 5xx."
    )
    failure_ratio: float = Field(
        default=0.5, gt=0, le=1, description="Share of failures among the last `window` answers that opens it too."
    )
    window: int = Field(default=20, ge=2, le=1000, description="Answers over which that share is taken.")
    backoff_s: float = Field(
        default=1.0, gt=0, description="Seconds until one trial request, doubled with each opening, with jitter."
    )
    max_backoff_s: float = Field(default=30.0, gt=0, description="The longest such wait.")


class EngineServiceSettings(BaseModel):
    """A Kubernetes Service whose ready endpoints are engines; as text: `[NAMESPACE/]NAME[:PORT]`."""

    model_config = ConfigDict(extra="forbid")

    service: str | None = Field(default=None, description="Name of the Service.")
    label_selector: str | None = Field(
        default=None, description="Instead of `service`: EndpointSlices with these labels."
    )
    namespace: str | None = Field(default=None, description="Its namespace; default: the gateway's own.")
    port: int | str | None = Field(default=None, description="Port's number or name; default: the first.")
    scheme: Literal["http", "https"] = Field(default="http", description="How the engines are spoken to.")
    server_name: str | None = Field(
        default=None, description="Name in the engines' certificates; default: SERVICE.NAMESPACE.svc."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        target, _, port = value.partition(":")
        namespace, _, service = target.rpartition("/")
        return {
            "service": service,
            "namespace": namespace or None,
            "port": int(port) if port.isdigit() else port or None,
        }

    @field_validator("service", "namespace")
    @classmethod
    def _is_dns_name(cls, value: str | None) -> str | None:
        if value is not None and not _DNS_NAME.fullmatch(value):
            raise ValueError(f"{value!r} is not a name as Kubernetes has them")
        return value

    @model_validator(mode="after")
    def _names_something(self) -> EngineServiceSettings:
        if (self.service is None) == (self.label_selector is None):
            raise ValueError("give either service or label_selector")
        return self
