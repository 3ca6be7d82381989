"""Settings of admission: fairness, queue bounds and concurrency limits."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class AdmissionSettings(BaseModel):
    """How requests wait for an engine, and how many an engine gets at once."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(
        default=True, description="Whether requests wait in the gateway's fair queue; false: straight to the engines."
    )
    input_weight: float = Field(
        default=1.0, gt=0, description="What a prompt token counts in a tenant's fair share, against others' tokens."
    )
    output_weight: float = Field(default=2.0, gt=0, description="What a token of an answer counts there.")
    max_queued: int = Field(default=4096, ge=1, description="Requests that wait at the most, in each worker process.")
    max_queued_per_tenant: int = Field(
        default=1024, ge=1, description="Requests of one tenant that wait at the most, in each worker process."
    )
    max_wait_s: float = Field(
        default=120.0,
        gt=0,
        description="Seconds that a request without a deadline waits at the most; it is refused at once when the "
        "queue in front of it takes longer than that.",
    )
    lower_priority_share: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="Share of grants kept for lower priorities while higher ones wait; 0 lets them starve.",
    )
    headroom: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="Share of the engines' slots kept free for tenants that ask for less than their share, while "
        "several tenants are there; 0 fills every slot with whoever waits.",
    )
    tenant_memory_s: float = Field(
        default=10.0, ge=0, description="Seconds for which a tenant counts as there after its last request."
    )
    adaptive: bool = Field(
        default=True,
        description="Whether each engine's concurrency limit follows its waiting requests and its time to first token; "
        "false: it stays at `concurrency`.",
    )
    concurrency: int = Field(
        default=256, ge=1, description="Answers in flight per engine to begin with; the limit where it is not adaptive."
    )
    min_concurrency: int = Field(default=4, ge=1, description="An adaptive limit goes no lower.")
    max_concurrency: int = Field(default=16384, ge=1, description="An adaptive limit goes no higher.")
    engine_priority: bool = Field(
        default=False,
        description="Whether requests carry vLLM's own `priority`; only for engines with --scheduling-policy priority.",
    )

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.adaptive and not self.min_concurrency <= self.concurrency <= self.max_concurrency:
            raise ValueError("concurrency must lie between min_concurrency and max_concurrency")
        return self
