"""The queue in front of the engines that share models: who waits, who is there, who goes next."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from serving.gateway.admission.counters import Account, TokenCounters
from serving.gateway.admission.demand import Demand
from serving.gateway.admission.drain import DrainRate

CanGo = Callable[[str, str, int], bool]


class Ticket:
    """One waiting request."""

    __slots__ = (
        "account",
        "counters",
        "demand",
        "future",
        "model",
        "queue",
        "sequence",
        "slots",
        "tenant",
        "tenant_state",
        "waits",
    )

    def __init__(self, queue: FairQueue, demand: Demand, sequence: int) -> None:
        self.queue = queue
        self.demand = demand
        self.sequence = sequence
        self.waits = False
        self.tenant, self.model, self.slots = demand.tenant, demand.model, demand.slots
        self.tenant_state = queue.tenant_state(demand.tenant, demand.weight)
        self.counters = queue.counters(demand.priority)
        self.account: Account[Ticket] = self.counters.account(demand.tenant, demand.weight)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def priority(self) -> int:
        return self.demand.priority


class Announcement:
    """A request that is being made ready, and is counted among those that are expected to wait until it is."""

    __slots__ = ("_is_over", "_queue", "_tenant")

    def __init__(self, queue: FairQueue, tenant: str) -> None:
        self._queue = queue
        self._tenant = tenant
        self._is_over = False
        queue.note_announced(tenant, 1)

    def withdraw(self) -> None:
        """It does not come, or is ready; calling it again does nothing."""
        if not self._is_over:
            self._is_over = True
            self._queue.note_announced(self._tenant, -1)


class TenantState:
    """What one tenant has in a queue, over all priorities."""

    __slots__ = ("idle_since", "num_running", "num_waiting", "tenant", "weight")

    def __init__(self, tenant: str, weight: float) -> None:
        self.tenant = tenant
        self.weight = weight
        self.num_running = 0
        self.num_waiting = 0
        self.idle_since: float | None = None


class FairQueue:
    """The queue of a group of engines. All counts are of this process.

    Higher priorities go first; within one the token counters decide. While a higher one waits, every grant earns the
    lower ones `lower_share` of one; what they have earned goes to the one that has waited longest for a grant.
    """

    def __init__(self, name: str, lower_share: float) -> None:
        self.name = name
        self.lower_share = lower_share
        self.rate = DrainRate()
        self.num_waiting = 0
        self.num_running = 0
        self.num_announced = 0
        self.tenants: dict[str, TenantState] = {}
        self.total_weight = 0.0
        self._classes: dict[int, TokenCounters[Ticket]] = {}
        self._last_grant: dict[int, int] = {}
        self._grants = 0
        self._earned = 0.0
        self._idle: deque[tuple[float, TenantState]] = deque()
        self._announced: Counter[str] = Counter()

    def counters(self, priority: int) -> TokenCounters[Ticket]:
        counters = self._classes.get(priority)
        if counters is None:
            counters = self._classes[priority] = TokenCounters()
        return counters

    def tenant_state(self, tenant: str, weight: float) -> TenantState:
        """The tenant's counts; it counts as there from now on."""
        tenant_state = self.tenants.get(tenant)
        if tenant_state is None:
            tenant_state = self.tenants[tenant] = TenantState(tenant, weight)
            self.total_weight += weight
        elif tenant_state.weight != weight:
            self.total_weight += weight - tenant_state.weight
            tenant_state.weight = weight
        tenant_state.idle_since = None
        return tenant_state

    def note_idle(self, tenant_state: TenantState, now: float) -> None:
        """A request has left; if it was the tenant's last, the tenant is forgotten after a while."""
        if not tenant_state.num_running and not tenant_state.num_waiting:
            tenant_state.idle_since = now
            self._idle.append((now, tenant_state))

    def forget_idle(self, before: float) -> None:
        """Tenants whose last request left before that time count as gone."""
        while self._idle and self._idle[0][0] < before:
            since, tenant_state = self._idle.popleft()
            if tenant_state.idle_since == since and self.tenants.pop(tenant_state.tenant, None) is not None:
                self.total_weight -= tenant_state.weight

    def is_within_share(self, tenant_state: TenantState, slots: int, more: int = 0) -> bool:
        """Whether all that the tenant has running and waiting, and `more`, fits into its share of the slots."""
        wanted = tenant_state.num_running + tenant_state.num_waiting + more
        return wanted <= max(1.0, slots * tenant_state.weight / self.total_weight)

    def announced_by(self, tenant: str) -> int:
        """Requests of the tenant that are being made ready, and may wait then."""
        return self._announced[tenant]

    def note_announced(self, tenant: str, by: int) -> None:
        """Called by announcements."""
        self.num_announced += by
        self._announced[tenant] += by
        if not self._announced[tenant]:
            del self._announced[tenant]

    def wait(self, ticket: Ticket, now: float) -> None:
        ticket.counters.wait(ticket.account, ticket)
        ticket.tenant_state.num_waiting += ticket.slots
        if not self.num_waiting:
            self.rate.backlogged(now)
        self.num_waiting += 1
        self._last_grant.setdefault(ticket.priority, self._grants)

    def withdraw(self, ticket: Ticket, now: float) -> None:
        """The ticket leaves without a permit."""
        ticket.counters.withdraw(ticket.account, ticket)
        self._left_queue(ticket)
        self.note_idle(ticket.tenant_state, now)

    def next(self, can_go: CanGo, now: float) -> Ticket | None:
        """Take out the ticket that goes next, if any may go."""
        for priority in self._order():
            ticket = self._classes[priority].next(can_go)
            if ticket is not None:
                self._note_grant(priority)
                self.rate.departed(now)
                self._left_queue(ticket)
                return ticket
        return None

    def num_ahead(self, tenant: str, weight: float, priority: int) -> float:
        """About how many permits go to others and to itself before a new request of the tenant gets one."""
        ahead = float(sum(counters.num_waiting for level, counters in self._classes.items() if level > priority))
        own_class = self._classes.get(priority)
        if own_class is None or not own_class.num_waiting:
            return ahead
        others = sum(state.weight for state in self.tenants.values() if state.num_waiting and state.tenant != tenant)
        account = own_class.accounts.get(tenant)
        own = account.num_waiting if account is not None else 0
        return ahead + min(own_class.num_waiting, own * (others + weight) / weight)

    def _order(self) -> list[int]:
        waiting = sorted((level for level, counters in self._classes.items() if counters.num_waiting), reverse=True)
        if len(waiting) > 1 and self._earned >= 1:
            longest = min(waiting[1:], key=self._last_grant.__getitem__)
            waiting.remove(longest)
            waiting.insert(0, longest)
        return waiting

    def _note_grant(self, priority: int) -> None:
        self._grants += 1
        self._last_grant[priority] = self._grants
        levels = [level for level, counters in self._classes.items() if counters.num_waiting]
        if any(level > priority for level in levels):
            self._earned = max(0.0, self._earned - 1)
        if any(level < priority for level in levels) or any(level > priority for level in levels):
            self._earned = min(2.0, self._earned + self.lower_share)

    def _left_queue(self, ticket: Ticket) -> None:
        ticket.tenant_state.num_waiting -= ticket.slots
        self.num_waiting -= 1
        if not ticket.counters.num_waiting:
            self._last_grant.pop(ticket.priority, None)
        if not self.num_waiting:
            self.rate.emptied()
            self._earned = 0.0
