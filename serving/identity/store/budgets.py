"""Budgets of keys and tenants: set and lifted. What was spent of them is the limiter's."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, insert

from serving.identity.amounts import LARGEST_NANOS, format_dollars
from serving.identity.errors import InvalidValue
from serving.identity.principal import Budget, BudgetPeriod, BudgetScope
from serving.identity.schema import budgets
from serving.identity.store.keys import change_key, live_key
from serving.identity.store.tenants import change_tenant, tenant_of
from serving.identity.store.transactions import Transactions


class BudgetStore(Transactions):
    """The budgets of one database."""

    def set_budget(self, budget: Budget) -> None:
        """Set what may be spent in a period, in place of what was set for it before.

        Raises:
            InvalidValue: the amount is not allowed.
            NotFound: there is no such tenant or key.
        """
        if not 0 <= budget.amount_nanos <= LARGEST_NANOS:
            raise InvalidValue(f"a budget must be between 0 and {format_dollars(LARGEST_NANOS)} dollars")
        with self._changing() as connection:
            _count_owner_up(connection, budget.scope, budget.owner)
            connection.execute(delete(budgets).where(*_of(budget.scope, budget.owner, budget.period)))
            connection.execute(
                insert(budgets).values(
                    scope=budget.scope, owner=budget.owner, period=budget.period, amount_nanos=budget.amount_nanos
                )
            )

    def remove_budget(self, scope: BudgetScope, owner: str, period: BudgetPeriod) -> None:
        """Lift a budget. Lifting it again changes nothing.

        Raises:
            NotFound: there is no such tenant or key.
        """
        with self._changing() as connection:
            _count_owner_up(connection, scope, owner)
            connection.execute(delete(budgets).where(*_of(scope, owner, period)))


def _of(scope: BudgetScope, owner: str, period: BudgetPeriod) -> tuple[ColumnElement[bool], ...]:
    return budgets.c.scope == scope, budgets.c.owner == owner, budgets.c.period == period


def _count_owner_up(connection: Connection, scope: BudgetScope, owner: str) -> None:
    """A budget is part of its owner: it counts as the owner's change."""
    if scope == "key":
        live_key(connection, owner, None)
        change_key(connection, owner, {})
    else:
        tenant_of(connection, owner)
        change_tenant(connection, owner)
