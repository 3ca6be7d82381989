from __future__ import annotations

import pytest

from serving.gateway.admission.drain import DrainRate


def departures(rate: DrainRate, number: int, gap_s: float) -> float:
    """So many requests leave a queue, one each `gap_s`; returns when the last did."""
    rate.backlogged(0.0)
    for departure in range(1, number + 1):
        rate.departed(departure * gap_s)
    return number * gap_s


def test_nothing_is_known_before_something_has_waited() -> None:
    assert DrainRate().per_second(5.0) is None


def test_it_is_the_rate_at_which_requests_leave() -> None:
    rate = DrainRate()

    now = departures(rate, 20, gap_s=0.25)

    assert rate.per_second(now) == pytest.approx(4.0)


def test_it_follows_a_change() -> None:
    rate = DrainRate()
    now = departures(rate, 20, gap_s=0.1)

    for departure in range(1, 61):
        rate.departed(now + departure)

    assert rate.per_second(now + 60) == pytest.approx(1.0, rel=0.05)


def test_a_queue_that_stands_still_has_a_lower_rate_the_longer_it_does() -> None:
    rate = DrainRate()
    now = departures(rate, 20, gap_s=0.1)

    assert rate.per_second(now + 1) == pytest.approx(10.0)
    assert rate.per_second(now + 160) == pytest.approx(0.1)


def test_a_first_request_that_waits_tells_a_rate_before_it_has_left() -> None:
    rate = DrainRate()
    rate.backlogged(10.0)

    assert rate.per_second(14.0) == pytest.approx(0.25)


def test_the_time_without_a_queue_does_not_count() -> None:
    rate = DrainRate()
    now = departures(rate, 10, gap_s=0.5)
    rate.emptied()

    rate.backlogged(now + 1000)
    rate.departed(now + 1000.5)

    assert rate.per_second(now + 1000.5) == pytest.approx(2.0)
