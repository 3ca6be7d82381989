"""Work is interrupted when its CPU time is spent, and only then."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest

from serving.gateway.cleaning.budget import BudgetSpent, CpuBudget


def compute_for_ever() -> None:
    while True:
        sum(range(1000))


def test_work_ends_with_its_budget() -> None:
    started = time.process_time()
    with pytest.raises(BudgetSpent):
        CpuBudget().run(0.05, compute_for_ever)
    assert time.process_time() - started < 2


def test_a_regular_expression_is_interrupted() -> None:
    with pytest.raises(BudgetSpent):
        CpuBudget().run(0.05, lambda: re.match(r"(a|aa)+$", "a" * 100 + "b"))


def test_an_except_on_the_way_does_not_take_it() -> None:
    def stubborn() -> None:
        while True:
            try:
                compute_for_ever()
            except Exception:
                continue

    with pytest.raises(BudgetSpent):
        CpuBudget().run(0.05, stubborn)


def test_nothing_is_left_of_a_budget_that_was_enough() -> None:
    budget = CpuBudget()

    assert budget.run(0.05, lambda: "done") == "done"
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    deadline = time.process_time() + 0.2
    while time.process_time() < deadline:
        sum(range(1000))


def test_other_threads_have_none() -> None:
    found: list[CpuBudget | None] = []
    thread = threading.Thread(target=lambda: found.append(CpuBudget.if_possible()))
    thread.start()
    thread.join()

    assert found == [None]
