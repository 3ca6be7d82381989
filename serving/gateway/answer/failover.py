"""What may be asked again when an engine fails: the settings, and the budget that keeps retries from being a storm."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

# Retries that are allowed at once however little traffic there was before.
RESERVE = 10.0
# Requests of the past count for so many retries at the most.
MOST_SAVED = 100.0


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


class RetryBudget:
    """Retries allowed in proportion to requests (as Finagle's retry budget), shared by all requests of the process.

    When every engine fails, each request asked `max_attempts` times would multiply the load that made them fail.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio
        self._balance = RESERVE

    def request(self) -> None:
        """A request has come."""
        self._balance = min(MOST_SAVED, self._balance + self.ratio)

    def withdraw(self) -> bool:
        """Take one retry, if one is left."""
        if self._balance < 1:
            return False
        self._balance -= 1
        return True


class Failover:
    """The settings and the budget, shared by all requests."""

    LIVE = ("gateway.failover",)

    def __init__(self, settings: FailoverSettings) -> None:
        self.settings = settings
        self.budget = RetryBudget(settings.retry_ratio)

    def apply(self, settings: FailoverSettings) -> None:
        """Take new settings; requests under way see them at their next decision."""
        self.settings = settings
        self.budget.ratio = settings.retry_ratio
