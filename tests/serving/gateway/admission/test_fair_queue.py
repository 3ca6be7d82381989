"""The queue by itself: whose ticket goes next, and who counts as there."""

from __future__ import annotations

from itertools import count

import pytest

from serving.gateway.admission.demand import Demand
from serving.gateway.admission.fair_queue import FairQueue, Ticket


class Line:
    """A queue in front of engines that always have room, and the tickets that wait in it."""

    def __init__(self, lower_share: float = 0.0) -> None:
        self.queue = FairQueue("m", lower_share)
        self._sequence = count()

    def wait(self, tenant: str, priority: int = 0, weight: float = 1.0, model: str = "m", slots: int = 1) -> Ticket:
        ticket = Ticket(self.queue, Demand(tenant, weight, model, priority, slots), next(self._sequence))
        self.queue.wait(ticket, 0.0)
        return ticket

    def next(self, *models: str) -> Ticket | None:
        return self.queue.next(lambda _tenant, model, _slots: model in (models or ("m",)), 0.0)

    def order(self, tokens: float = 0.0) -> list[str]:
        """Who goes, to the last; each is served so many tokens."""
        tenants = []
        while (ticket := self.next()) is not None:
            ticket.counters.charge(ticket.account, tokens)
            tenants.append(ticket.tenant)
        return tenants


async def test_one_tenants_tickets_go_in_their_order() -> None:
    line = Line()
    tickets = [line.wait("a") for _ in range(3)]

    assert [line.next() for _ in range(4)] == [*tickets, None]
    assert line.queue.num_waiting == 0


async def test_who_was_served_less_goes_first() -> None:
    line = Line()
    for tenant in "aaaabb":
        line.wait(tenant)

    assert "".join(line.order(tokens=10)) == "ababaa"


async def test_a_tenant_of_twice_the_weight_goes_twice_as_often() -> None:
    line = Line()
    for _ in range(12):
        line.wait("heavy", weight=2.0)
        line.wait("light")

    assert line.order(tokens=10)[:9].count("heavy") == 6


async def test_what_may_not_go_holds_nobody_else_up() -> None:
    line = Line()
    line.wait("a", model="full")
    behind, other = line.wait("a"), line.wait("b")

    assert [line.next(), line.next(), line.next()] == [behind, other, None]
    assert line.queue.num_waiting == 1


async def test_higher_priorities_go_first() -> None:
    line = Line()
    for priority in (0, 5, -3, 5):
        line.wait(f"of {priority}", priority)

    assert line.order() == ["of 5", "of 5", "of 0", "of -3"]


@pytest.mark.parametrize(("share", "position"), [(0.5, 2), (0.25, 4), (0.125, 8)])
async def test_a_lower_priority_goes_when_it_has_earned_a_grant(share: float, position: int) -> None:
    line = Line(lower_share=share)
    line.wait("low")
    for _ in range(20):
        line.wait("high", priority=1)

    assert line.order().index("low") == position


async def test_what_is_earned_goes_to_the_priority_that_has_waited_longest() -> None:
    line = Line(lower_share=0.5)
    for _ in range(2):
        line.wait("lowest", priority=-1)
    for _ in range(12):
        line.wait("high", priority=1)
        line.wait("low")

    low = [tenant for tenant in line.order()[:12] if tenant != "high"]

    assert set(low) == {"low", "lowest"}


async def test_who_withdraws_is_passed_over_and_counted_no_more() -> None:
    line = Line()
    gone, stays = line.wait("a", slots=3), line.wait("a")

    line.queue.withdraw(gone, 0.0)

    assert line.queue.tenants["a"].num_waiting == 1
    assert [line.next(), line.next()] == [stays, None]
    assert line.queue.tenants["a"].num_waiting == 0


async def test_how_many_go_before_a_new_request() -> None:
    line = Line()
    assert line.queue.num_ahead("a", 1.0, 0) == 0
    for _ in range(3):
        line.wait("a")
    for _ in range(10):
        line.wait("flood")
    line.wait("urgent", priority=1)

    assert line.queue.num_ahead("new", 1.0, 0) == 1  # the urgent one alone: a tenant that asks for little is lifted
    assert line.queue.num_ahead("a", 1.0, 0) == 1 + 3 * 3  # three tenants take turns
    assert line.queue.num_ahead("flood", 1.0, 0) == 1 + 13  # no more than there are
    assert line.queue.num_ahead("a", 1.0, 1) == 0


async def test_a_share_is_of_the_slots_by_weight() -> None:
    queue = FairQueue("m", 0.0)
    state, _ = queue.tenant_state("a", 1.0), queue.tenant_state("b", 3.0)

    state.num_running = 2

    assert queue.is_within_share(state, slots=8)
    assert not queue.is_within_share(state, slots=8, more=1)
    state.num_running = 1
    assert queue.is_within_share(state, slots=1)  # one is never too many


async def test_a_tenant_is_forgotten_a_while_after_its_last_request() -> None:
    queue = FairQueue("m", 0.0)
    states = [queue.tenant_state(tenant, 2.0) for tenant in "abc"]
    for now, state in enumerate(states):
        queue.note_idle(state, float(now))
    queue.tenant_state("b", 1.0)  # is back, with another weight

    queue.forget_idle(before=1.5)

    assert set(queue.tenants) == {"b", "c"}
    assert queue.total_weight == 3.0


async def test_who_still_runs_is_not_forgotten() -> None:
    queue = FairQueue("m", 0.0)
    state = queue.tenant_state("a", 1.0)
    state.num_running = 1

    queue.note_idle(state, 0.0)
    queue.forget_idle(before=9.0)

    assert "a" in queue.tenants
