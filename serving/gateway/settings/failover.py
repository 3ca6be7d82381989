"""Settings of what happens when an engine fails."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FailoverSettings(BaseModel):
    """What happens to an answer when its engine fails, stays silent or drains."""

    model_config = ConfigDict(extra="forbid")

    max_attempts: int = Field(
        default=3, ge=1, description="Engines that one request is sent to at the most while it has no answer."
    )
    retry_ratio: float = Field(
        default=0.2,
        ge=0,
        description="Retries after an engine's own failures (5xx, broken answers) per request, over all requests.",
    )
    retry_timeouts: bool = Field(
        default=False, description="Whether to ask another engine after gateway.first_byte_timeout_s without an answer."
    )
    continue_streams: bool = Field(
        default=True, description="Whether a stream that breaks off is continued on another engine."
    )
    max_continuations: int = Field(
        default=5, ge=0, description="How often one stream is continued before it ends in an error event."
    )
    engine_wait_s: float = Field(
        default=5.0, ge=0, description="Seconds that a stream which broke off waits for an engine to go on with it."
    )
    stall_timeout_s: float = Field(
        default=20.0,
        gt=0,
        description="Seconds of silence after which a stream that can be continued is taken to another engine.",
    )
    handover_grace_s: float = Field(
        default=10.0,
        ge=0,
        description="Seconds that a draining engine may go on with a stream before another takes it over.",
    )
