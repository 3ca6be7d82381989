"""Rounds of two engines and their table, against the stand-in; real engines are measured by hand."""

from __future__ import annotations

from itertools import count

from loadtests.benchmarks.real_engine import Side, bodies
from loadtests.benchmarks.served_pair import Served, report


class Clock:
    """A program that needs so much processor time between two looks at it."""

    def __init__(self, step: float) -> None:
        self._looks = count()
        self._step = step

    def cpu_s(self) -> float:
        return next(self._looks) * self._step


def test_tokens_are_counted_by_the_clock_and_by_processor_time(standin_url: str) -> None:
    served = Served(Side("tiny@1", standin_url, {}), Clock(4.0))

    # The second look of a round comes one step after the first.
    for _ in range(2):
        served.ask(bodies("tiny", 5, 0.0), 3)

    assert served.tokens_per_cpu_s == [15 / 4.0] * 2
    assert len(served.tokens_per_s) == 2
    assert min(served.tokens_per_s) > 0


def test_the_first_round_is_a_warm_up_and_ratios_are_of_pairs() -> None:
    first = Served(Side("a@1", "", {}), Clock(1.0), [1.0, 10.0, 20.0, 30.0], [1.0, 5.0, 5.0, 5.0])
    second = Served(Side("b@1", "", {}), Clock(1.0), [9.0, 12.0, 22.0, 45.0], [9.0, 6.0, 7.0, 8.0])

    lines = report([first, second], 16, 40).splitlines()

    assert lines[-2:] == [
        "| tokens/s | 20.0 | 22.0 | **1.20** | 1.10–1.50 |",
        "| tokens/s of processor time | 5.0 | 7.0 | **1.40** | 1.20–1.60 |",
    ]
