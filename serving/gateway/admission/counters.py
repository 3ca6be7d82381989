"""Fair order among tenants by the tokens they were served: the Virtual Token Counter.

Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, algorithms 2 and 4. Each tenant has a counter of
the tokens it was served, weighted, divided by the tenant's weight; the waiting tenant with the lowest is served next.
A tenant that begins to wait again is lifted to the lowest counter among those waiting (to that of the last one served,
when none is): what it did not use while away is not saved up. Between two tenants of equal weight that both wait,
the counters never part by more than max(input_weight x longest prompt, output_weight x tokens in flight).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

# Idle accounts are looked through when so many have gathered, then when twice as many as were left.
_SWEEP_AT_LEAST = 1024


class Waiter(Protocol):
    """What waits: `sequence` tells who came first, `slots` how much room it takes."""

    @property
    def tenant(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def slots(self) -> int: ...


W = TypeVar("W", bound=Waiter)


class Account(Generic[W]):
    """One tenant's counter in one class, and its requests that wait, by model, oldest first."""

    __slots__ = ("key", "num_running", "num_waiting", "served", "tenant", "waiting", "weight")

    def __init__(self, tenant: str, weight: float) -> None:
        self.tenant = tenant
        self.weight = weight
        self.served = 0.0
        self.num_running = 0
        self.num_waiting = 0
        self.waiting: dict[str, OrderedDict[W, None]] = {}
        self.key = 0.0  # of the one valid entry in the heap, while something waits

    def first(self, can_go: Callable[[str, str, int], bool]) -> W | None:
        """The oldest waiting request whose model may go now."""
        best: W | None = None
        for model, waiters in self.waiting.items():
            oldest = next(iter(waiters))
            if (best is None or oldest.sequence < best.sequence) and can_go(self.tenant, model, oldest.slots):
                best = oldest
        return best


class TokenCounters(Generic[W]):
    """The counters of all tenants in one class. Tokens given here are already weighted by kind, not by tenant."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account[W]] = {}
        self.num_waiting = 0
        self._heap: list[tuple[float, int, Account[W]]] = []
        self._pushes = 0
        self._last_served: Account[W] | None = None
        self._sweep_at = _SWEEP_AT_LEAST

    def account(self, tenant: str, weight: float) -> Account[W]:
        """The tenant's account, lifted if none of its requests waits."""
        account = self.accounts.get(tenant)
        if account is None:
            self._sweep()
            account = self.accounts[tenant] = Account(tenant, weight)
        account.weight = weight
        if not account.num_waiting:
            floor = self._floor()
            if account.served < floor:
                account.served = floor
        return account

    def wait(self, account: Account[W], waiter: W) -> None:
        """Queue a request behind those of the same tenant."""
        account.waiting.setdefault(waiter.model, OrderedDict())[waiter] = None
        account.num_waiting += 1
        self.num_waiting += 1
        if account.num_waiting == 1:
            self._push(account)

    def withdraw(self, account: Account[W], waiter: W) -> None:
        """Take a waiting request out, whatever for."""
        waiters = account.waiting[waiter.model]
        del waiters[waiter]
        if not waiters:
            del account.waiting[waiter.model]
        account.num_waiting -= 1
        self.num_waiting -= 1

    def next(self, can_go: Callable[[str, str, int], bool]) -> W | None:
        """Take out the request that goes next: of the tenant with the lowest counter that has one which may go.

        `can_go` is asked for (tenant, model, slots).
        """
        passed: list[tuple[float, int, Account[W]]] = []
        chosen: W | None = None
        while chosen is None and (account := self._lowest()) is not None:
            chosen = account.first(can_go)
            if chosen is None:
                passed.append(heapq.heappop(self._heap))
            else:
                self.withdraw(account, chosen)
        for entry in passed:
            heapq.heappush(self._heap, entry)
        return chosen

    def begin(self, account: Account[W], tokens: float) -> None:
        """A request of the account is served from now on; `tokens` are its prompt's."""
        account.num_running += 1
        self._last_served = account
        self.charge(account, tokens)

    def charge(self, account: Account[W], tokens: float) -> None:
        """Count tokens as served; negative: fewer than were counted before."""
        account.served += tokens / account.weight
        if tokens < 0 and account.num_waiting and account.served < account.key:
            self._push(account)

    def end(self, account: Account[W]) -> None:
        """A request of the account is over."""
        account.num_running -= 1

    def _floor(self) -> float:
        lowest = self._lowest()
        if lowest is not None:
            return lowest.served
        return self._last_served.served if self._last_served is not None else 0.0

    def _lowest(self) -> Account[W] | None:
        """The waiting account with the lowest counter, its entry on top of the heap."""
        heap = self._heap
        while heap:
            key, _, account = heap[0]
            if not account.num_waiting or key != account.key:
                heapq.heappop(heap)
            elif account.served > key:
                heapq.heappop(heap)
                self._push(account)
            else:
                return account
        return None

    def _push(self, account: Account[W]) -> None:
        self._pushes += 1
        account.key = account.served
        heapq.heappush(self._heap, (account.key, self._pushes, account))

    def _sweep(self) -> None:
        """Forget idle tenants whose counter the lift would give them back."""
        if len(self.accounts) < self._sweep_at:
            return
        floor = self._floor()
        self.accounts = {
            tenant: account
            for tenant, account in self.accounts.items()
            if account.num_waiting or account.num_running or account.served > floor
        }
        self._sweep_at = max(_SWEEP_AT_LEAST, 2 * len(self.accounts))
