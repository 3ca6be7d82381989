"""Limits of a gateway with one process: plain objects, called from the event loop only, no locks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from serving.identity.limits.accounts import (
    BudgetAccount,
    RateAccount,
    book,
    decide,
    settle_budget,
    settle_rate,
    usages,
)
from serving.identity.limits.lease import Lease, Refusal
from serving.identity.limits.periods import Calendar
from serving.identity.limits.plan import Amount, Plan

# A minute without use fades all use that is no debt; a debt of more than ten minutes is forgiven.
FORGET_AFTER_S = 600.0
_SWEEP_AT_LEAST = 1024


class MemoryStore:
    """The accounts of one process. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, calendar: Calendar | None = None) -> None:
        self._clock = clock
        self._calendar = calendar or Calendar()
        self._rates: dict[str, RateAccount] = {}
        self._budgets: dict[str, BudgetAccount] = {}
        self._sweep_at = _SWEEP_AT_LEAST

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    def reclaim(self) -> bool:
        """Nothing is left behind by others."""
        return False

    def acquire(self, plan: Plan, amount: Amount) -> Lease | Refusal | None:
        """Start a request or say why not; None: a budget was never compared with the ledger (`compare`).

        A refused request uses up nothing.
        """
        now = self._clock()
        rates = self._rates_of(plan, now)
        if not plan.budgets:
            return self._take(plan, amount, rates, (), (), now)
        budgets = [self._budgets.get(account) for account, _ in plan.budgets]
        known = [account for account in budgets if account is not None and account.seeded]
        if len(known) < len(budgets):
            return None
        windows = [self._calendar.window(budget.period) for _, budget in plan.budgets]
        return self._take(plan, amount, rates, known, windows, now)

    def _take(
        self,
        plan: Plan,
        amount: Amount,
        rates: Sequence[RateAccount],
        budgets: Sequence[BudgetAccount],
        windows: Sequence[int],
        now: float,
    ) -> Lease | Refusal:
        granted = decide(plan, rates, budgets, windows, amount, now)
        if isinstance(granted, Refusal):
            return granted
        book(rates, budgets, amount.tokens, granted, amount.sequences)
        return Lease(self, plan, amount.tokens, granted, windows, usages(plan, rates), sequences=amount.sequences)

    def book(self, lease: Lease) -> None:
        """Count a request that another store has let in."""
        now = self._clock()
        rates = self._rates_of(lease.plan, now)
        for scope, rate in zip(lease.plan.rates, rates, strict=True):
            rate.fade(scope.limits, now)
        budgets = [self._budget(account) for account, _ in lease.plan.budgets]
        book(rates, budgets, lease.tokens, lease.granted, lease.sequences)

    def settle(self, lease: Lease, tokens: int, nanos: int) -> None:
        """End a request: called by its lease, once."""
        now = self._clock()
        for scope in lease.plan.rates:
            settle_rate(self._rates[scope.account], scope.limits, tokens - lease.tokens, lease.sequences, now)
        if lease.plan.budgets:
            for (account, _), window in zip(lease.plan.budgets, lease.windows, strict=True):
                settle_budget(self._budgets[account], window, lease.granted, nanos, now)

    def compare(self, account: str, window: int, in_ledger: int, quiet_s: float) -> None:
        """Take over what the ledger says was spent of a budget."""
        self._budget(account).compare(window, in_ledger, self._clock(), quiet_s)

    def open_requests(self, account: str) -> int:
        """Leases on a rate account that are neither settled nor released."""
        rate = self._rates.get(account)
        return rate.open if rate is not None else 0

    def budget(self, account: str) -> tuple[int, int]:
        """Spent and reserved, nano-dollars."""
        budget = self._budgets.get(account)
        return (budget.spent, budget.reserved) if budget is not None else (0, 0)

    def _budget(self, account: str) -> BudgetAccount:
        budget = self._budgets.get(account)
        if budget is None:
            budget = self._budgets[account] = BudgetAccount(self._clock())
        return budget

    def _rates_of(self, plan: Plan, now: float) -> list[RateAccount]:
        if len(self._rates) >= self._sweep_at:
            self._sweep(now)
        return [self._rates.get(scope.account) or self._new_rate(scope.account, now) for scope in plan.rates]

    def _new_rate(self, account: str, now: float) -> RateAccount:
        rate = self._rates[account] = RateAccount(now)
        return rate

    def _sweep(self, now: float) -> None:
        """Forget accounts that are not in use, when many have gathered."""
        self._rates = {
            name: rate for name, rate in self._rates.items() if rate.open or now - rate.updated < FORGET_AFTER_S
        }
        self._sweep_at = max(_SWEEP_AT_LEAST, 2 * len(self._rates))
