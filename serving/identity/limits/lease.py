"""What a request gets from the limiter: a lease, or a refusal; and the headers that tell the state of its limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.identity.amounts import format_dollars
from serving.identity.limits.periods import window_end
from serving.identity.limits.plan import Amount, LimitName, Plan
from serving.identity.principal import Budget, BudgetScope, Limits

RateLimitHeaders = tuple[tuple[str, str], ...]
Usage = tuple[Limits, float, float]
"""Limits of a key or tenant, and what is used of its requests and tokens a minute."""

# When all slots, or all of a budget, are taken nobody knows how long answers still take; clients try again after this.
_BUSY_RETRY_S = 1.0
_ASK_FOR_FEWER = "Ask for fewer with 'n', 'best_of' or a shorter list of prompts."
_SEND_LESS = "Send less, or name a smaller 'max_tokens'."
_DEGRADED: RateLimitHeaders = (("x-signet-degraded", "limits"),)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request may not start now."""

    limit: LimitName
    whose: BudgetScope
    allowed: int
    """The limit's value: per minute, at once, or nano-dollars."""
    remaining: int
    retry_after_s: float | None
    """When it could succeed; None: not by waiting a little."""
    headers: RateLimitHeaders
    """`x-ratelimit-*` as OpenAI's."""
    message: str
    """One line for the client."""

    @property
    def code(self) -> str:
        """The error's stable code, OpenAI's where OpenAI has one."""
        if self.limit != "budget":
            return "exceeds_limit" if self.retry_after_s is None else "rate_limit_exceeded"
        return "insufficient_quota" if self.retry_after_s is None else "budget_reserved"


class Settles(Protocol):
    """Where a lease is settled."""

    def settle(self, lease: Lease, tokens: int, nanos: int) -> None: ...


class Lease:
    """Permission for one request. Settle it with what was used, and release it on every path.

    As a context manager it releases by itself. `settle` and `release` may be repeated; only the first counts.
    """

    __slots__ = ("_store", "_usages", "degraded", "granted", "plan", "sequences", "tokens", "windows")

    def __init__(
        self,
        store: Settles | None,
        plan: Plan,
        tokens: int,
        granted: int,
        windows: Sequence[int],
        usages: tuple[Usage, ...],
        degraded: bool = False,
        sequences: int = 1,
    ) -> None:
        self._store = store
        self._usages = usages
        self.plan = plan
        self.tokens = tokens
        """The estimate that was booked."""
        self.granted = granted
        """Nano-dollars reserved in every budget; the answer must not cost more."""
        self.sequences = sequences
        """As how many requests it counts."""
        self.windows = windows
        """Of the plan's budgets, when the request began."""
        self.degraded = degraded
        """Granted by this gateway alone, while the shared store was gone."""

    @property
    def headers(self) -> RateLimitHeaders:
        """`x-ratelimit-*` as OpenAI's, as of the start of the request; empty without limits."""
        if not self._usages:
            return _DEGRADED if self.degraded else ()
        return rate_limit_headers(self._usages) + (_DEGRADED if self.degraded else ())

    @property
    def is_open(self) -> bool:
        return self._store is not None

    def settle_through(self, store: Settles, degraded: bool) -> None:
        """Settle in another store than the one that granted it."""
        self._store = store
        self.degraded = degraded

    def settle(self, tokens: int, nanos: int = 0) -> None:
        """Replace the estimates by what was really used, and free the slot."""
        store, self._store = self._store, None
        if store is not None:
            store.settle(self, tokens, nanos)

    def release(self) -> None:
        """Free the slot; a lease that was never settled used nothing."""
        self.settle(0)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


UNLIMITED = Lease(None, Plan((), ()), 0, 0, (), ())


def rate_limit_headers(usages: Sequence[Usage]) -> RateLimitHeaders:
    """Of requests and of tokens the limit with the least left, the key's or the tenant's."""
    headers: list[tuple[str, str]] = []
    requests = [(limit, used) for limits, used, _ in usages if (limit := limits.requests_per_minute)]
    tokens = [(limit, used) for limits, _, used in usages if (limit := limits.tokens_per_minute)]
    for name, candidates in (("requests", requests), ("tokens", tokens)):
        if candidates:
            limit, used = min(candidates, key=lambda candidate: candidate[0] - candidate[1])
            headers.append((f"x-ratelimit-limit-{name}", str(limit)))
            headers.append((f"x-ratelimit-remaining-{name}", str(max(0, int(limit - used)))))
            headers.append((f"x-ratelimit-reset-{name}", duration(used * 60.0 / limit)))
    return tuple(headers)


def refuse_rate(plan: Plan, index: int, limit: LimitName, usages: tuple[Usage, ...], amount: Amount) -> Refusal:
    """The refusal for a limit of `plan.rates[index]`."""
    scope = plan.rates[index]
    limits, requests, tokens = usages[index]
    headers = rate_limit_headers(usages)
    whose = f"This {scope.whose}"
    if limit == "concurrency":
        allowed = limits.concurrency or 0
        if amount.sequences > allowed:
            message = f"The request asks for {amount.sequences} answers at once, and this {scope.whose} may have "
            return Refusal(limit, scope.whose, allowed, 0, None, headers, f"{message}{allowed}. {_ASK_FOR_FEWER}")
        message = f"{whose} may have {allowed} requests open at once; wait for one to finish."
        return Refusal(limit, scope.whose, allowed, 0, _BUSY_RETRY_S, headers, message)
    is_tokens = limit == "tokens"
    allowed = (limits.tokens_per_minute if is_tokens else limits.requests_per_minute) or 0
    used, needed = (tokens, amount.tokens) if is_tokens else (requests, amount.sequences)
    remaining = max(0, int(allowed - used))
    if needed > allowed:
        message = f"The request needs more {limit} than this {scope.whose}'s limit of {allowed} per minute allows. "
        message += _SEND_LESS if is_tokens else _ASK_FOR_FEWER
        return Refusal(limit, scope.whose, allowed, remaining, None, headers, message)
    wait = max(0.001, (used + needed - allowed) * 60.0 / allowed)
    message = f"{whose}'s limit of {allowed} {limit} per minute is used up; try again in {duration(wait)}."
    return Refusal(limit, scope.whose, allowed, remaining, wait, headers, message)


def refuse_budget(plan: Plan, index: int, window: int, used_up: bool, spent: int, usages: tuple[Usage, ...]) -> Refusal:
    """The refusal for `plan.budgets[index]`: used up, or only reserved by requests that are open now."""
    budget = plan.budgets[index].budget
    left = max(0, budget.amount_nanos - spent)
    named = f"This {budget.scope}'s budget of {dollars(budget.amount_nanos)}{_PER[budget.period]}"
    if not used_up:
        message = f"{named} is reserved by requests that are open now; try again when one has finished."
    elif left:
        message = f"{named} has {dollars(left)} left, less than this request may cost; "
        message += f"ask for fewer tokens{_until(budget, window)}."
    else:
        message = f"{named} is used up{_until(budget, window)}."
    headers = rate_limit_headers(usages)
    retry = None if used_up else _BUSY_RETRY_S
    return Refusal("budget", budget.scope, budget.amount_nanos, left, retry, headers, message)


_PER = {"day": " a day", "month": " a month", "total": ""}


def _until(budget: Budget, window: int) -> str:
    end = window_end(budget.period, window)
    return f"; a new one begins at {end:%Y-%m-%d %H:%M} UTC" if end is not None else ""


def dollars(nanos: int) -> str:
    """`$12.50`, `$0.000123`: at least cents, at most nine decimals, exact."""
    return f"${format_dollars(nanos)}"


def duration(seconds: float) -> str:
    """As in OpenAI's headers: `6m0s`, `1.5s`, `20ms`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds * 1000) / 1000, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
