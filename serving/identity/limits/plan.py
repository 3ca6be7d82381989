"""Which accounts a principal's requests are booked on: worked out once for each principal, not for each request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from serving.identity.principal import Budget, BudgetScope, Limits, Principal


class RateScope(NamedTuple):
    """Limits that hold for one key, or for all keys of one tenant together."""

    account: str
    whose: BudgetScope
    limits: Limits


class BudgetScopeAccount(NamedTuple):
    """A budget and the account that its spending is kept on."""

    account: str
    budget: Budget


@dataclass(frozen=True, slots=True)
class Plan:
    """The accounts of one principal."""

    rates: tuple[RateScope, ...]
    budgets: tuple[BudgetScopeAccount, ...]

    @property
    def accounts(self) -> tuple[str, ...]:
        """Names: of the rates, then of the budgets."""
        return (*(scope.account for scope in self.rates), *(scope.account for scope in self.budgets))


class Amount(NamedTuple):
    """What one request needs at the most, before it is known what it really takes."""

    tokens: int
    """Prompt and answer: an estimate, as limits per minute need."""
    nanos: int = 0
    """Upper bound of its cost, in nano-dollars."""
    least_nanos: int = 0
    """With this much it could still be answered, shortened; equal to `nanos` when its length is fixed."""
    sequences: int = 1
    """Answers that an engine makes for it side by side: each counts as a request."""


LimitName = Literal["requests", "tokens", "concurrency", "budget"]


class PlanBook:
    """The plans of principals, remembered while a principal stays the same object."""

    _MOST = 4096

    def __init__(self) -> None:
        self._known: dict[str, tuple[Principal, Plan, Plan]] = {}

    def plan(self, principal: Principal, costs_money: bool) -> Plan:
        """The accounts for a request; one that costs nothing leaves budgets alone."""
        known = self._known.get(principal.key_id)
        if known is None or known[0] is not principal:
            if len(self._known) >= self._MOST:
                self._known.clear()
            full = make_plan(principal)
            known = self._known[principal.key_id] = (principal, full, Plan(full.rates, ()))
        return known[1] if costs_money else known[2]


def make_plan(principal: Principal) -> Plan:
    """The accounts of one principal: its key's, its tenant's, its budgets'."""
    scopes = (
        RateScope(f"key:{principal.key_id}", "key", principal.limits),
        RateScope(f"tenant:{principal.tenant}", "tenant", principal.tenant_limits),
    )
    budgets = tuple(
        BudgetScopeAccount(f"budget:{budget.scope}:{budget.owner}:{budget.period}", budget)
        for budget in principal.budgets
    )
    return Plan(tuple(scope for scope in scopes if scope.limits != Limits()), budgets)
