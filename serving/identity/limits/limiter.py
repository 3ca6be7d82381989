"""The door: principal and amount in, `Lease` or `Refusal` out, from whichever store is configured."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from serving.database import Reader
from serving.identity.limits.lease import UNLIMITED, Lease, Refusal
from serving.identity.limits.memory import MemoryStore
from serving.identity.limits.periods import Calendar
from serving.identity.limits.plan import Amount, Plan, PlanBook
from serving.identity.limits.shared import SharedStore
from serving.identity.limits.spending import LedgerSpending, Spending, SpendingUnknown
from serving.identity.limits.store import EmbeddedStore
from serving.identity.principal import Budget, Principal
from serving.identity.settings import IdentitySettings

if TYPE_CHECKING:
    from serving.identity.limits.redis_store import RedisStore

log = logging.getLogger(__name__)

_RECLAIM_S = 1.0
# An answer is in the ledger well within this time of being settled.
_QUIET_S = 60.0


class Limiter:
    """Limits and budgets of all keys and tenants.

    Args:
        store: this gateway's own accounts; default: in this process's memory.
        redis: the accounts that several gateways share, with `store` to fall back on.
        spending: sums of the ledger, from which budgets start; None: every budget starts unspent.
        compare_s: seconds between two comparisons with the ledger.
    """

    LIVE = ("identity.budget_answer_tokens", "identity.budget_compare_s")
    """Settings that `apply` takes over."""

    def __init__(
        self,
        store: EmbeddedStore | None = None,
        redis: RedisStore | None = None,
        spending: Spending | None = None,
        compare_s: float = 30.0,
        answer_tokens: int = 4096,
        calendar: Calendar | None = None,
    ) -> None:
        self._store: EmbeddedStore = store or MemoryStore()
        self._redis = redis
        self._spending = spending
        self._compare_s = compare_s
        self.answer_tokens = answer_tokens
        """Under a budget, reserved for an answer whose length nobody named."""
        self._calendar = calendar or Calendar()
        self._plans = PlanBook()
        self._watched: dict[str, Budget] = {}
        self._comparing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def from_settings(
        cls,
        settings: IdentitySettings,
        records: Reader,
        home: Path,
        workers: int,
        on_degraded: Callable[[bool], None],
    ) -> Limiter:
        """The store that the settings ask for. Opens nothing yet: `start` does, in the worker."""
        store: EmbeddedStore = SharedStore(home / "run" / "limits") if workers > 1 else MemoryStore()
        redis = None
        if settings.limits_url is not None:
            # Imported here: a gateway that needs no server does not pay for its client.
            from serving.identity.limits.redis_store import RedisStore

            redis = RedisStore(
                settings.limits_url.get_secret_value(),
                store,
                on_degraded=on_degraded,
                timeout_s=settings.limits_timeout_s,
                lease_s=settings.limits_lease_s,
            )
        return cls(store, redis, LedgerSpending(records), settings.budget_compare_s, settings.budget_answer_tokens)

    async def start(self) -> None:
        """Open the store and begin to look after it.

        Raises:
            TableError: the file that workers share cannot be used.
        """
        self._store.open()
        if self._redis is not None:
            await self._redis.start()
        self._tasks = [asyncio.create_task(self._reclaim()), asyncio.create_task(self._compare_again())]

    async def stop(self) -> None:
        """Give everything back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._redis is not None:
            await self._redis.stop()
        self._store.close()

    def apply(self, settings: IdentitySettings) -> None:
        """Take over what can change while running: how budgets are compared and what they reserve."""
        self._compare_s = settings.budget_compare_s
        self.answer_tokens = settings.budget_answer_tokens

    def acquire_nowait(self, principal: Principal, amount: Amount) -> Lease | Refusal | None:
        """Start a request or say why not, without waiting; None: only `acquire` can tell.

        A refused request uses up nothing.
        """
        plan = self._plans.plan(principal, amount.nanos > 0)
        if not plan.rates and not plan.budgets:
            return UNLIMITED
        if self._redis is not None:
            return self._redis.acquire(plan, amount)
        return self._store.acquire(plan, amount)

    async def acquire(self, principal: Principal, amount: Amount) -> Lease | Refusal:
        """Start a request or say why not.

        Raises:
            SpendingUnknown: a budget is used for the first time and the ledger cannot say what was spent of it.
        """
        plan = self._plans.plan(principal, amount.nanos > 0)
        if not plan.rates and not plan.budgets:
            return UNLIMITED
        decision = await self._decide(plan, amount)
        while decision is None:
            # Many requests may meet an unknown budget at once: one of them asks.
            async with self._comparing:
                decision = await self._decide(plan, amount)
                if decision is None:
                    await self._compare(dict(plan.budgets))
        return decision

    def open_requests(self, account: str) -> int:
        """Open requests of `key:ID` or `tenant:NAME`, as far as this gateway knows."""
        return self._store.open_requests(account)

    def budget(self, budget: Budget) -> tuple[int, int]:
        """Spent and reserved of a budget, nano-dollars, as far as this gateway knows."""
        return self._store.budget(f"budget:{budget.scope}:{budget.owner}:{budget.period}")

    async def _decide(self, plan: Plan, amount: Amount) -> Lease | Refusal | None:
        if self._redis is not None:
            return await self._redis.acquire_shared(plan, amount)
        return self._store.acquire(plan, amount)

    async def _compare(self, budgets: dict[str, Budget]) -> None:
        self._watched.update(budgets)
        for account, budget in budgets.items():
            window = self._calendar.window(budget.period)
            spent = 0
            if self._spending is not None:
                spent = await asyncio.to_thread(self._spending.spent, budget, window)
            if self._redis is not None:
                await self._redis.compare_shared(account, window, spent, _QUIET_S)
            else:
                self._store.compare(account, window, spent, _QUIET_S)

    async def _compare_again(self) -> None:
        """Other gateways on the same ledger spend too, and what was charged may not have been recorded."""
        failing = False
        while True:
            await asyncio.sleep(self._compare_s)
            try:
                await self._compare(dict(self._watched))
                failing = False
            except SpendingUnknown as error:
                if not failing:  # once, not every time
                    log.warning("budgets go on uncompared", extra={"reason": str(error)})
                failing = True

    async def _reclaim(self) -> None:
        while True:
            await asyncio.sleep(_RECLAIM_S)
            if self._store.reclaim():
                # It may have recorded answers that it had not charged yet.
                with suppress(SpendingUnknown):
                    await self._compare(dict(self._watched))
