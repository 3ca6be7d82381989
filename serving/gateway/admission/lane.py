"""The queue in front of the engines that share models: who waits, who is there, who goes next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from serving.gateway.admission.counters import Account, TokenCounters
from serving.gateway.admission.drain import DrainRate

CanGo = Callable[[str, str, int], bool]


class Ticket:
    """One waiting request."""

    __slots__ = (
        "account",
        "counters",
        "future",
        "lane",
        "model",
        "places",
        "presence",
        "priority",
        "sequence",
        "tenant",
    )

    def __init__(
        self, lane: Lane, tenant: str, model: str, priority: int, weight: float, sequence: int, places: int = 1
    ) -> None:
        self.places = places
        self.lane = lane
        self.tenant = tenant
        self.model = model
        self.priority = priority
        self.sequence = sequence
        self.presence = lane.presence(tenant, weight)
        self.counters = lane.counters(priority)
        self.account: Account[Ticket] = self.counters.account(tenant, weight)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Presence:
    """What one tenant has in a lane, over all priorities."""

    __slots__ = ("idle_since", "num_running", "num_waiting", "tenant", "weight")

    def __init__(self, tenant: str, weight: float) -> None:
        self.tenant = tenant
        self.weight = weight
        self.num_running = 0
        self.num_waiting = 0
        self.idle_since: float | None = None


class Lane:
    """The queue of a group of engines. All counts are of this process.

    Higher priorities go first; within one the token counters decide. While a higher one waits, every turn earns the
    lower ones `lower_share` of a turn; what they have earned goes to the one that has been without the longest.
    """

    def __init__(self, name: str, lower_share: float) -> None:
        self.name = name
        self.lower_share = lower_share
        self.rate = DrainRate()
        self.num_waiting = 0
        self.num_running = 0
        self.presences: dict[str, Presence] = {}
        self.total_weight = 0.0
        self._classes: dict[int, TokenCounters[Ticket]] = {}
        self._last_turn: dict[int, int] = {}
        self._turns = 0
        self._earned = 0.0
        self._idle: deque[tuple[float, Presence]] = deque()

    def counters(self, priority: int) -> TokenCounters[Ticket]:
        found = self._classes.get(priority)
        if found is None:
            found = self._classes[priority] = TokenCounters()
        return found

    def presence(self, tenant: str, weight: float) -> Presence:
        """The tenant's counts; it counts as there from now on."""
        presence = self.presences.get(tenant)
        if presence is None:
            presence = self.presences[tenant] = Presence(tenant, weight)
            self.total_weight += weight
        elif presence.weight != weight:
            self.total_weight += weight - presence.weight
            presence.weight = weight
        presence.idle_since = None
        return presence

    def note_idle(self, presence: Presence, now: float) -> None:
        """A request has left; if it was the tenant's last, the tenant is forgotten after a while."""
        if not presence.num_running and not presence.num_waiting:
            presence.idle_since = now
            self._idle.append((now, presence))

    def forget_idle(self, before: float) -> None:
        """Tenants whose last request left before that time count as gone."""
        while self._idle and self._idle[0][0] < before:
            since, presence = self._idle.popleft()
            if presence.idle_since == since and self.presences.pop(presence.tenant, None) is not None:
                self.total_weight -= presence.weight

    def is_modest(self, presence: Presence, places: int, more: int = 0) -> bool:
        """Whether all that the tenant has running and waiting, and `more`, fits into its share of the places."""
        wanted = presence.num_running + presence.num_waiting + more
        return wanted <= max(1.0, places * presence.weight / self.total_weight)

    def wait(self, ticket: Ticket, now: float) -> None:
        ticket.counters.wait(ticket.account, ticket)
        ticket.presence.num_waiting += ticket.places
        if not self.num_waiting:
            self.rate.backlogged(now)
        self.num_waiting += 1
        self._last_turn.setdefault(ticket.priority, self._turns)

    def withdraw(self, ticket: Ticket, now: float) -> None:
        """The ticket leaves without a turn."""
        ticket.counters.withdraw(ticket.account, ticket)
        self._left_queue(ticket)
        self.note_idle(ticket.presence, now)

    def next(self, can_go: CanGo, now: float) -> Ticket | None:
        """Take out the ticket whose turn it is, if any may go."""
        for priority in self._order():
            ticket = self._classes[priority].next(can_go)
            if ticket is not None:
                self._note_turn(priority)
                self.rate.departed(now)
                self._left_queue(ticket)
                return ticket
        return None

    def num_ahead(self, tenant: str, weight: float, priority: int) -> float:
        """About how many turns go to others and to itself before a new request of the tenant has one."""
        ahead = float(sum(found.num_waiting for level, found in self._classes.items() if level > priority))
        own_class = self._classes.get(priority)
        if own_class is None or not own_class.num_waiting:
            return ahead
        others = sum(each.weight for each in self.presences.values() if each.num_waiting and each.tenant != tenant)
        account = own_class.accounts.get(tenant)
        own = account.num_waiting if account is not None else 0
        return ahead + min(own_class.num_waiting, own * (others + weight) / weight)

    def _order(self) -> list[int]:
        waiting = sorted((level for level, found in self._classes.items() if found.num_waiting), reverse=True)
        if len(waiting) > 1 and self._earned >= 1:
            longest = min(waiting[1:], key=self._last_turn.__getitem__)
            waiting.remove(longest)
            waiting.insert(0, longest)
        return waiting

    def _note_turn(self, priority: int) -> None:
        self._turns += 1
        self._last_turn[priority] = self._turns
        levels = [level for level, found in self._classes.items() if found.num_waiting]
        if any(level > priority for level in levels):
            self._earned = max(0.0, self._earned - 1)
        if any(level < priority for level in levels) or any(level > priority for level in levels):
            self._earned = min(2.0, self._earned + self.lower_share)

    def _left_queue(self, ticket: Ticket) -> None:
        ticket.presence.num_waiting -= ticket.places
        self.num_waiting -= 1
        if not ticket.counters.num_waiting:
            self._last_turn.pop(ticket.priority, None)
        if not self.num_waiting:
            self.rate.emptied()
            self._earned = 0.0
