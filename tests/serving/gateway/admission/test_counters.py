"""The virtual token counter, against what its paper promises."""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.admission.counters import Account, TokenCounters


@dataclass(eq=False)
class Asked:
    tenant: str
    sequence: int
    prompt: int = 1
    answer: int = 1
    model: str = "m"
    slots: int = 1


def anyone(tenant: str, model: str, slots: int) -> bool:
    return True


class Engine:
    """Serves `slots` requests at once, a token each in every step, in the order of the counters."""

    def __init__(self, slots: int, weights: dict[str, float] | None = None) -> None:
        self.counters: TokenCounters[Asked] = TokenCounters()
        self.slots = slots
        self.weights = weights or {}
        self.running: list[tuple[Asked, Account[Asked], int]] = []
        self.served: Counter[str] = Counter()
        self.order: list[Asked] = []

    def ask(self, asked: Asked) -> None:
        account = self.counters.account(asked.tenant, self.weights.get(asked.tenant, 1.0))
        self.counters.wait(account, asked)

    def waits(self, tenant: str) -> bool:
        account = self.counters.accounts.get(tenant)
        return account is not None and account.num_waiting > 0

    def step(self) -> None:
        while len(self.running) < self.slots and (asked := self.counters.next(anyone)) is not None:
            account = self.counters.accounts[asked.tenant]
            self.counters.begin(account, asked.prompt)
            self.served[asked.tenant] += asked.prompt
            self.order.append(asked)
            self.running.append((asked, account, asked.answer))
        still = []
        for asked, account, left in self.running:
            self.counters.charge(account, 2)
            self.served[asked.tenant] += 2
            if left > 1:
                still.append((asked, account, left - 1))
            else:
                self.counters.end(account)
        self.running = still


sizes = st.tuples(st.integers(1, 30), st.integers(1, 20))


@given(
    st.lists(sizes, min_size=30, max_size=80), st.lists(sizes, min_size=30, max_size=80), st.integers(1, 6), st.data()
)
def test_two_that_wait_are_served_alike_up_to_the_papers_bound(
    first: list[tuple[int, int]], second: list[tuple[int, int]], slots: int, data: st.DataObject
) -> None:
    engine = Engine(slots)
    for name, requests in (("a", first), ("b", second)):
        for number, (prompt, answer) in enumerate(requests):
            engine.ask(Asked(name, number, prompt, answer))
    # Theorem 4.4: 2 max(w_p L_input, w_q M), M being the tokens, of prompts and answers, that a running batch holds.
    bound = 2 * max(30, 2 * slots * (30 + 20))
    marks = [Counter(engine.served)]

    while engine.waits("a") and engine.waits("b"):
        engine.step()
        marks.append(Counter(engine.served))

    since, until = sorted(data.draw(st.tuples(*[st.integers(0, len(marks) - 1)] * 2)))
    gained = marks[until] - marks[since]
    assert abs(gained["a"] - gained["b"]) <= bound


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 0.5), (2.0, 2 / 3), (4.0, 0.8)])
def test_tokens_are_shared_by_weight(weight: float, expected: float) -> None:
    engine, generator = Engine(8, {"a": weight}), random.Random(7)
    for number in range(3000):
        engine.ask(Asked("a", number, generator.randint(1, 200), generator.randint(1, 10)))
        engine.ask(Asked("b", number, generator.randint(1, 10), generator.randint(1, 60)))

    while engine.waits("a") and engine.waits("b"):
        engine.step()

    assert engine.served["a"] / engine.served.total() == pytest.approx(expected, abs=0.01)


def test_who_was_away_saves_nothing_up() -> None:
    engine = Engine(1)
    for number in range(200):
        engine.ask(Asked("busy", number))
    for _ in range(100):
        engine.step()

    for number in range(50):
        engine.ask(Asked("back", number))
    engine.order.clear()
    for _ in range(40):
        engine.step()

    assert Counter(asked.tenant for asked in engine.order) == {"busy": 20, "back": 20}


def test_after_an_empty_queue_the_last_one_served_sets_the_level() -> None:
    engine = Engine(1)
    for number in range(100):
        engine.ask(Asked("early", number))
        engine.step()
    level = engine.counters.accounts["early"].served

    assert engine.counters.account("late", 1.0).served == level


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from(["ask", "leave", "next"]))))
def test_nothing_is_lost_and_each_tenant_is_first_come_first_served(steps: list[tuple[str, str, str]]) -> None:
    counters: TokenCounters[Asked] = TokenCounters()
    model: dict[str, deque[Asked]] = {tenant: deque() for tenant in "abc"}
    for number, (tenant, name, what) in enumerate(steps):
        if what == "ask":
            asked = Asked(tenant, number, model=name)
            counters.wait(counters.account(tenant, 1.0), asked)
            model[tenant].append(asked)
        elif what == "leave" and model[tenant]:
            counters.withdraw(counters.accounts[tenant], gone := model[tenant].pop())
            assert gone.tenant == tenant
        elif what == "next":
            taken = counters.next(lambda _, asked_model, slots, name=name: asked_model == name)
            ready = [next((a for a in queue if a.model == name), None) for queue in model.values()]
            assert (taken is None) == (not any(ready))
            if taken is not None:
                assert taken is next(a for a in model[taken.tenant] if a.model == name)
                model[taken.tenant].remove(taken)
                counters.begin(counters.accounts[taken.tenant], 3)
        assert counters.num_waiting == sum(map(len, model.values()))

    while (taken := counters.next(anyone)) is not None:
        assert taken is model[taken.tenant].popleft()
    assert counters.num_waiting == 0
    assert not any(account.waiting for account in counters.accounts.values())


def test_a_refund_counts_while_the_tenant_waits() -> None:
    counters: TokenCounters[Asked] = TokenCounters()
    over, under = counters.account("over", 1.0), counters.account("under", 1.0)
    counters.begin(over, 100)
    counters.begin(under, 50)
    for number in range(2):
        counters.wait(over, Asked("over", number))
        counters.wait(under, Asked("under", number))

    counters.charge(over, -90)

    assert [counters.next(anyone).tenant for _ in range(4)] == ["over", "over", "under", "under"]


def test_idle_tenants_are_forgotten() -> None:
    counters: TokenCounters[Asked] = TokenCounters()
    for number in range(10_000):
        account = counters.account(f"tenant-{number}", 1.0)
        counters.begin(account, 10)
        counters.end(account)

    assert len(counters.accounts) < 3000
