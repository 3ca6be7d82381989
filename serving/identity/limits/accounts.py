"""The arithmetic of limits and budgets: what every embedded store does, wherever it keeps the numbers.

A rate account holds what was *used* of a minute's allowance; use fades steadily at the limit's own rate, which is a
token bucket seen from the other side. The limit itself is not stored, so a changed one holds at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.identity.limits.lease import Refusal, Usage, refuse_budget, refuse_rate
from serving.identity.limits.plan import Amount, BudgetScopeAccount, LimitName, Plan
from serving.identity.principal import Limits


class RateAccount:
    """What one key or tenant has used of its minute, and its open requests."""

    __slots__ = ("open", "requests", "tokens", "updated")

    def __init__(self, now: float) -> None:
        self.requests = 0.0
        self.tokens = 0.0
        """May exceed the limit: usage above the estimate is a debt."""
        self.open = 0
        self.updated = now

    def fade(self, limits: Limits, now: float) -> None:
        """Take account of the time that has passed."""
        elapsed = now - self.updated
        if elapsed > 0:
            per_minute = limits.requests_per_minute
            faded = self.requests - elapsed * per_minute / 60.0 if per_minute else 0.0
            self.requests = faded if faded > 0 else 0.0
            per_minute = limits.tokens_per_minute
            faded = self.tokens - elapsed * per_minute / 60.0 if per_minute else 0.0
            self.tokens = faded if faded > 0 else 0.0
            self.updated = now


class BudgetAccount:
    """What was spent in a window of a budget's period, and what open requests have reserved; nano-dollars."""

    __slots__ = ("reserved", "seeded", "spent", "updated", "window")

    def __init__(self, now: float) -> None:
        self.window = 0
        self.spent = 0
        self.reserved = 0
        self.seeded = False
        """`spent` has been compared with the ledger."""
        self.updated = now
        """When the account was last settled."""

    def roll(self, window: int) -> None:
        """Begin a new window. What is reserved stays: its requests are still open."""
        if window > self.window:
            self.window = window
            self.spent = 0

    def compare(self, window: int, in_ledger: int, now: float, quiet_s: float) -> None:
        """Take over the ledger's sum for `window`.

        Answers that are settled and not yet written make the ledger's sum the smaller one, so `spent` falls to it
        only when nothing was open or settled for `quiet_s`.
        """
        if window < self.window:
            return
        self.roll(window)
        quiet = not self.reserved and now - self.updated >= quiet_s
        self.spent = in_ledger if quiet and self.seeded else max(self.spent, in_ledger)
        self.seeded = True


def decide(
    plan: Plan,
    rates: Sequence[RateAccount],
    budgets: Sequence[BudgetAccount],
    windows: Sequence[int],
    amount: Amount,
    now: float,
) -> int | Refusal:
    """May a request start: the nano-dollars it gets, or why not. Books nothing."""
    tokens, sequences = amount.tokens, amount.sequences
    for index, rate in enumerate(rates):
        limits = plan.rates[index][2]
        rate.fade(limits, now)
        reached: LimitName | None = None
        if (most := limits.concurrency) is not None and rate.open + sequences > most:
            reached = "concurrency"
        elif (most := limits.requests_per_minute) is not None and most - rate.requests < sequences:
            reached = "requests"
        elif (most := limits.tokens_per_minute) is not None and most - rate.tokens < tokens:
            reached = "tokens"
        if reached is not None:
            return refuse_rate(plan, index, reached, usages(plan, rates), amount)
    if not budgets:
        return 0
    granted = amount.nanos
    for index, (limited, account) in enumerate(zip(plan.budgets, budgets, strict=True)):
        account.roll(windows[index])
        share = _share(limited, account, amount)
        if share is None:
            used_up = amount.least_nanos > limited.budget.amount_nanos - account.spent
            return refuse_budget(plan, index, windows[index], used_up, account.spent, usages(plan, rates))
        granted = min(granted, share)
    return granted


def _share(scope: BudgetScopeAccount, account: BudgetAccount, amount: Amount) -> int | None:
    """What this budget grants; None: too little."""
    left = scope.budget.amount_nanos - account.spent
    free = left - account.reserved
    if amount.nanos <= free:
        return amount.nanos
    # An answer is shortened because the budget ends, not because others have reserved the rest for a moment.
    return free if amount.nanos > left and amount.least_nanos <= free else None


def book(
    rates: Sequence[RateAccount], budgets: Sequence[BudgetAccount], tokens: int, granted: int, sequences: int
) -> None:
    """Start a request that `decide` has let in."""
    for rate in rates:
        rate.requests += sequences
        rate.tokens += tokens
        rate.open += sequences
    for account in budgets:
        account.reserved += granted


def settle_rate(rate: RateAccount, limits: Limits, extra_tokens: float, sequences: int, now: float) -> None:
    """End a request: its estimate was too small by `extra_tokens`."""
    rate.open = max(0, rate.open - sequences)
    if limits.tokens_per_minute is not None:
        rate.fade(limits, now)
        rate.tokens = max(0.0, rate.tokens + extra_tokens)


def settle_budget(account: BudgetAccount, window: int, granted: int, cost: int, now: float) -> None:
    """End a request that began in `window`; of a window that is over, the ledger alone keeps the cost."""
    if account.window == window:
        account.spent += cost
    account.reserved = max(0, account.reserved - granted)
    account.updated = now


def usages(plan: Plan, rates: Sequence[RateAccount]) -> tuple[Usage, ...]:
    """For the `x-ratelimit-*` headers."""
    if len(rates) == 1:  # as most are: no loop
        return ((plan.rates[0].limits, rates[0].requests, rates[0].tokens),)
    return tuple([(scope[2], rate.requests, rate.tokens) for scope, rate in zip(plan.rates, rates, strict=False)])
