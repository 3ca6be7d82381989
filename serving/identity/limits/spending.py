"""What the ledger says was spent: where budgets start from, and what they are compared with."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from serving.database import explain, open_engine
from serving.identity.limits.periods import window_start
from serving.identity.principal import Budget
from serving.ledger.record import requests


class SpendingUnknown(Exception):
    """The ledger cannot be read now; `str()` is one line."""


class Spending(Protocol):
    """Where sums come from."""

    def spent(self, budget: Budget, window: int) -> int: ...

    def close(self) -> None: ...


class LedgerSpending:
    """Sums of `requests.cost_nanos`. Blocks: call it from a thread."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)

    def spent(self, budget: Budget, window: int) -> int:
        """Nano-dollars of all answers that began in a window of the budget's period.

        Raises:
            SpendingUnknown: the database is not there.
        """
        owner = requests.c.key_id if budget.scope == "key" else requests.c.tenant
        start = window_start(budget.period, window)
        end = window_start(budget.period, window + 1)
        query = select(func.coalesce(func.sum(requests.c.cost_nanos), 0)).where(owner == budget.owner)
        if budget.period != "total":
            query = query.where(requests.c.created_at >= start, requests.c.created_at < end)
        try:
            with self._engine.connect() as connection:
                return int(connection.scalar(query) or 0)
        except SQLAlchemyError as error:
            raise SpendingUnknown(explain(self._engine, error)) from error

    def close(self) -> None:
        """Release the database."""
        self._engine.dispose()
