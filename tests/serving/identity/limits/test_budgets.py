"""Budgets in every embedded store: never over, never leaked, whatever the order; one line that says why not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.identity import Amount, Budget, Lease, Limiter, Limits, Principal, Refusal, SpendingUnknown
from serving.identity.limits.lease import dollars
from serving.identity.limits.memory import MemoryStore
from serving.identity.limits.periods import Calendar, window_end, window_start
from serving.identity.limits.shared import SharedStore

DAY = 86_400
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Sums:
    """What a ledger would say."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, int], int] = {}
        self.fails = False
        self.asked = 0

    def spent(self, budget: Budget, window: int) -> int:
        self.asked += 1
        if self.fails:
            raise SpendingUnknown("the database is not usable")
        return self.sums.get((budget.period, window), 0)

    def close(self) -> None: ...


@pytest.fixture
def wall() -> Clock:
    return Clock(NOON)


@pytest.fixture(params=["memory", "shared"])
def store(request: pytest.FixtureRequest, wall: Clock, tmp_path: Path) -> Iterator[MemoryStore | SharedStore]:
    calendar = Calendar(wall)
    made = (
        MemoryStore(calendar=calendar)
        if request.param == "memory"
        else SharedStore(tmp_path / "limits", calendar=calendar)
    )
    made.open()
    yield made
    made.close()


@pytest.fixture
def sums() -> Sums:
    return Sums()


@pytest.fixture
def limiter(store: MemoryStore | SharedStore, sums: Sums, wall: Clock) -> Limiter:
    return Limiter(store, spending=sums, calendar=Calendar(wall))


def spender(*budgets: tuple[str, int]) -> Principal:
    return Principal(
        "key_1", "acme", budgets=tuple(Budget("tenant", "acme", period, nanos) for period, nanos in budgets)
    )


async def ask(limiter: Limiter, principal: Principal, nanos: int, least: int | None = None) -> Lease | Refusal:
    return await limiter.acquire(principal, Amount(1, nanos, nanos if least is None else least))


async def grant(limiter: Limiter, principal: Principal, nanos: int, least: int | None = None) -> Lease:
    lease = await ask(limiter, principal, nanos, least)
    assert isinstance(lease, Lease), lease
    return lease


async def refuse(limiter: Limiter, principal: Principal, nanos: int, least: int | None = None) -> Refusal:
    refusal = await ask(limiter, principal, nanos, least)
    assert isinstance(refusal, Refusal)
    return refusal


async def test_what_is_reserved_and_spent_is_not_given_again(limiter: Limiter) -> None:
    principal = spender(("month", 1000))
    first = await grant(limiter, principal, 600)

    busy = await refuse(limiter, principal, 500)
    first.settle(10, 550)
    await grant(limiter, principal, 450)

    assert (busy.code, busy.retry_after_s) == ("budget_reserved", 1.0)
    assert limiter.budget(principal.budgets[0]) == (550, 450)


async def test_a_used_up_budget_says_so_and_until_when(limiter: Limiter) -> None:
    principal = spender(("month", 2_500_000_000))
    (await grant(limiter, principal, 2_500_000_000)).settle(1, 2_500_000_000)

    refusal = await refuse(limiter, principal, 1)

    assert (refusal.code, refusal.retry_after_s) == ("insufficient_quota", None)
    assert (
        refusal.message == "This tenant's budget of $2.50 a month is used up; a new one begins at 2026-12-01 00:00 UTC."
    )


async def test_a_request_that_costs_too_much_hears_what_is_left(limiter: Limiter) -> None:
    refusal = await refuse(limiter, spender(("total", 1_000_000)), 2_000_000)

    assert refusal.code == "insufficient_quota"
    assert refusal.message == (
        "This tenant's budget of $0.001 has $0.001 left, less than this request may cost; ask for fewer tokens."
    )


async def test_the_end_of_a_budget_shortens_an_answer_that_may_be(limiter: Limiter) -> None:
    principal = spender(("day", 1000))
    (await grant(limiter, principal, 700)).settle(1, 700)

    lease = await grant(limiter, principal, 600, least=100)

    assert lease.granted == 300
    assert (await refuse(limiter, principal, 600, least=100)).code == "budget_reserved"


async def test_others_reservations_do_not_shorten_an_answer(limiter: Limiter) -> None:
    principal = spender(("day", 1000))
    await grant(limiter, principal, 700)

    assert (await refuse(limiter, principal, 600, least=100)).code == "budget_reserved"


async def test_the_tightest_of_several_budgets_decides(limiter: Limiter) -> None:
    principal = spender(("day", 500), ("month", 10_000), ("total", 10_000))

    assert (await refuse(limiter, principal, 501)).allowed == 500
    lease = await grant(limiter, principal, 501, least=1)

    assert lease.granted == 500
    assert limiter.budget(principal.budgets[1]) == (0, 500)


async def test_what_costs_nothing_needs_no_budget(limiter: Limiter) -> None:
    principal = spender(("day", 0))

    assert isinstance(limiter.acquire_nowait(principal, Amount(10)), Lease)


async def test_a_new_day_is_a_new_budget_and_old_answers_stay_in_the_old(limiter: Limiter, wall: Clock) -> None:
    principal = spender(("day", 1000), ("month", 5000))
    lease = await grant(limiter, principal, 900)
    wall.now += DAY

    assert (await refuse(limiter, principal, 200)).code == "budget_reserved", "it is still open"
    lease.settle(1, 900)
    await grant(limiter, principal, 1000)

    assert limiter.budget(principal.budgets[0]) == (0, 1000)
    assert limiter.budget(principal.budgets[1]) == (900, 1000)


async def test_budgets_start_from_the_ledger(limiter: Limiter, sums: Sums, wall: Clock) -> None:
    sums.sums["month", Calendar(wall).window("month")] = 900
    principal = spender(("month", 1000))

    assert limiter.acquire_nowait(principal, Amount(1, 200, 200)) is None, "unknown: it must be looked up"
    decisions = await asyncio.gather(*(ask(limiter, principal, 200) for _ in range(20)))

    assert {type(decision) for decision in decisions} == {Refusal}
    assert sums.asked == 1
    assert isinstance(limiter.acquire_nowait(principal, Amount(1, 100, 100)), Lease), "known from now on"


async def test_without_the_ledger_an_unknown_budget_is_not_guessed(limiter: Limiter, sums: Sums) -> None:
    sums.fails = True
    with pytest.raises(SpendingUnknown):
        await ask(limiter, spender(("month", 1000)), 1)

    sums.fails = False
    await grant(limiter, spender(("month", 1000)), 1)


def test_comparing_never_forgets_what_is_not_yet_in_the_ledger(store: MemoryStore | SharedStore) -> None:
    limiter = Limiter(store)
    principal = spender(("total", 1000))
    account = "budget:tenant:acme:total"
    store.compare(account, 0, 100, quiet_s=60)
    lease = limiter.acquire_nowait(principal, Amount(1, 300, 300))
    assert isinstance(lease, Lease)
    lease.settle(1, 300)

    store.compare(account, 0, 150, quiet_s=60)
    assert store.budget(account) == (400, 0), "settled a moment ago: the ledger may not have it yet"
    store.compare(account, 0, 700, quiet_s=60)
    assert store.budget(account) == (700, 0), "another gateway has spent"
    store.compare(account, 0, 650, quiet_s=0)
    assert store.budget(account) == (650, 0), "quiet: the ledger is right"


def test_windows() -> None:
    calendar = Calendar(Clock(NOON))

    assert window_start("day", calendar.window("day")) == NOON - DAY / 2
    assert window_start("month", calendar.window("month")) == datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    assert window_end("month", calendar.window("month")) == datetime(2026, 12, 1, tzinfo=UTC)
    assert (calendar.window("total"), window_start("total", 0), window_end("total", 0)) == (0, 0.0, None)


@pytest.mark.parametrize(
    ("nanos", "text"), [(0, "$0.00"), (12_500_000_000, "$12.50"), (1, "$0.000000001"), (123_000, "$0.000123")]
)
def test_dollars(nanos: int, text: str) -> None:
    assert dollars(nanos) == text


_folders = itertools.count()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    shared=st.booleans(),
    steps=st.lists(
        st.tuples(st.sampled_from(["ask", "ask short", "settle", "release"]), st.integers(1, 300), st.integers(0, 50)),
        max_size=60,
    ),
)
def test_no_order_overspends_or_leaks(tmp_path: Path, shared: bool, steps: list[tuple[str, int, int]]) -> None:
    """Answers that keep to what was granted never overspend; at the end nothing is reserved and every cost counted."""
    store = SharedStore(tmp_path / str(next(_folders))) if shared else MemoryStore()
    store.open()
    store.compare("budget:tenant:acme:total", 0, 0, quiet_s=60)
    limiter = Limiter(store)
    principal = Principal("k", "acme", limits=Limits(concurrency=5), budgets=(Budget("tenant", "acme", "total", 1000),))
    leases: list[Lease] = []
    spent = 0
    for kind, amount, which in steps:
        if kind.startswith("ask"):
            least = 1 if kind == "ask short" else amount
            decision = limiter.acquire_nowait(principal, Amount(1, amount, least))
            if isinstance(decision, Lease):
                assert least <= decision.granted <= amount
                leases.append(decision)
        elif leases:
            lease = leases.pop(which % len(leases))
            cost = min(lease.granted, amount) if kind == "settle" else 0
            lease.settle(1, cost)
            lease.settle(1, 999)
            spent += cost
        assert limiter.budget(principal.budgets[0]) == (spent, sum(lease.granted for lease in leases))
        assert spent + sum(lease.granted for lease in leases) <= 1000
    for lease in leases:
        lease.release()
    assert limiter.budget(principal.budgets[0]) == (spent, 0)
    store.close()
