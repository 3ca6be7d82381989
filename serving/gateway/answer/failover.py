"""What may be asked again when an engine fails: the budget that keeps retries from being a storm."""

from __future__ import annotations

from serving.gateway.settings.failover import FailoverSettings

# Retries that are allowed at once however little traffic there was before.
RESERVE = 10.0
# Requests of the past count for so many retries at the most.
MOST_SAVED = 100.0


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
