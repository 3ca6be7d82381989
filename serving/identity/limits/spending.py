"""What the ledger says was spent: where budgets start from, and what they are compared with."""

from __future__ import annotations

from typing import Protocol

from serving.database import DatabaseError, Reader
from serving.identity.limits.periods import window_start
from serving.identity.principal import Budget
from serving.ledger.usage import RequestFilter, usage


class SpendingUnknown(Exception):
    """The ledger cannot be read now; `str()` is one line."""


class Spending(Protocol):
    """Where sums come from."""

    def spent(self, budget: Budget, window: int) -> int: ...


class LedgerSpending:
    """What the ledger's requests cost. Blocks: call it from a thread."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def spent(self, budget: Budget, window: int) -> int:
        """Nano-dollars of all answers that began in a window of the budget's period.

        Raises:
            SpendingUnknown: the database is not there, or takes too long.
        """
        since: float | None = None
        until: float | None = None
        if budget.period != "total":
            since, until = window_start(budget.period, window), window_start(budget.period, window + 1)
        owner = {"key" if budget.scope == "key" else "tenant": budget.owner}
        try:
            sums = usage(self._reader, (), RequestFilter(since, until, **owner))
        except DatabaseError as error:
            raise SpendingUnknown(str(error)) from error
        return sum(row.cost_nanos for row in sums)
