from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.engines.circuit import Circuit, CircuitPolicy

POLICY = CircuitPolicy(consecutive_failures=3, failure_ratio=0.5, window=8, backoff_s=1.0, max_backoff_s=8.0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def circuit_at(clock: Clock, jitter: float = 1.0) -> Circuit:
    return Circuit(POLICY, clock=clock, jitter=lambda: jitter)


def opened(clock: Clock) -> Circuit:
    circuit = circuit_at(clock)
    for _ in range(3):
        circuit.failed()
    return circuit


def test_failures_in_a_row_open_it(clock: Clock) -> None:
    circuit = circuit_at(clock)
    circuit.failed()
    circuit.failed()
    assert circuit.allows()
    circuit.failed()
    assert (circuit.state, circuit.allows()) == ("open", False)


def test_a_share_of_failures_opens_it_although_never_many_in_a_row(clock: Clock) -> None:
    circuit = circuit_at(clock)
    for _ in range(3):
        circuit.failed()
        circuit.succeeded()
    assert circuit.state == "closed"
    circuit.failed()
    circuit.succeeded()
    circuit.failed()
    assert circuit.state == "open"


def test_few_failures_among_many_answers_do_not(clock: Clock) -> None:
    circuit = circuit_at(clock)
    for _ in range(50):
        circuit.failed()
        for _ in range(3):
            circuit.succeeded()
    assert circuit.state == "closed"


def test_one_trial_request_decides(clock: Clock) -> None:
    circuit = opened(clock)
    clock.now += 1.01
    assert circuit.allows()
    assert circuit.begin()
    assert not circuit.allows()
    assert not circuit.begin()
    circuit.succeeded()
    assert (circuit.state, circuit.allows()) == ("closed", True)


def test_a_trial_without_an_outcome_leaves_the_next_request_to_try(clock: Clock) -> None:
    circuit = opened(clock)
    clock.now += 1.01
    assert circuit.begin()
    circuit.end_trial()
    assert circuit.begin()


def test_the_wait_doubles_up_to_its_limit_and_starts_over_after_a_success(clock: Clock) -> None:
    circuit = opened(clock)
    for wait in (1, 2, 4, 8, 8):
        clock.now += wait - 0.01
        assert not circuit.allows()
        clock.now += 0.02
        assert circuit.begin()
        circuit.failed()
    clock.now += 8.01
    circuit.begin()
    circuit.succeeded()
    for _ in range(3):
        circuit.failed()
    clock.now += 1.01
    assert circuit.allows()


def test_jitter_shortens_the_wait_by_up_to_half(clock: Clock) -> None:
    circuit = circuit_at(clock, jitter=0.0)
    for _ in range(3):
        circuit.failed()
    clock.now += 0.51
    assert circuit.allows()


@given(st.lists(st.sampled_from(["begin", "succeeded", "failed", "end_trial", "wait"])))
def test_never_more_than_one_trial_runs(steps: list[str]) -> None:
    clock = Clock()
    circuit = opened(clock)
    running = 0
    for step in steps:
        if step == "wait":
            clock.now += 9
        elif step == "begin":
            is_trial = circuit.begin()
            if circuit.state != "closed":
                running += is_trial
        else:
            getattr(circuit, step)()
            running = 0
        assert running <= 1
