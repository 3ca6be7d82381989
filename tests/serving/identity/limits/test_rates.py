"""Limits of keys and tenants, in every embedded store: exact over any sequence of requests, and nothing leaks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.identity import Amount, Lease, Limiter, Limits, Principal, Refusal
from serving.identity.limits.lease import duration
from serving.identity.limits.memory import MemoryStore
from serving.identity.limits.shared import SharedStore


class Clock:
    """Time that stands still until told otherwise; seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "shared"])
def store(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[MemoryStore | SharedStore]:
    made = MemoryStore(clock) if request.param == "memory" else SharedStore(tmp_path / "run" / "limits", clock)
    made.open()
    yield made
    made.close()


@pytest.fixture
def limiter(store: MemoryStore | SharedStore) -> Limiter:
    return Limiter(store)


def holder(requests: int | None = None, tokens: int | None = None, concurrency: int | None = None) -> Principal:
    return Principal("key_1", "acme", limits=Limits(requests, tokens, concurrency))


def acquire(limiter: Limiter, principal: Principal, tokens: int = 1) -> Lease:
    lease = limiter.acquire_nowait(principal, Amount(tokens))
    assert isinstance(lease, Lease), lease
    return lease


def refuse(limiter: Limiter, principal: Principal, tokens: int = 1) -> Refusal:
    refusal = limiter.acquire_nowait(principal, Amount(tokens))
    assert isinstance(refusal, Refusal)
    return refusal


def test_a_key_without_limits_is_never_refused(limiter: Limiter) -> None:
    leases = [acquire(limiter, holder(), 10**9) for _ in range(10_000)]

    assert leases[0].headers == ()


def test_requests_per_minute(limiter: Limiter, clock: Clock) -> None:
    principal = holder(requests=3)
    for _ in range(3):
        acquire(limiter, principal).settle(1)

    refusal = refuse(limiter, principal)

    assert (refusal.limit, refusal.allowed, refusal.remaining) == ("requests", 3, 0)
    assert refusal.retry_after_s == pytest.approx(20)
    clock.now += 20
    acquire(limiter, principal)
    assert refuse(limiter, principal).limit == "requests"


def test_a_refused_request_uses_nothing_up(limiter: Limiter, clock: Clock) -> None:
    principal = holder(requests=1, tokens=100)
    acquire(limiter, principal, 10).settle(10)

    for _ in range(50):
        refuse(limiter, principal)

    clock.now += 60
    acquire(limiter, principal, 100)
    assert refuse(limiter, principal).limit == "requests"


def test_tokens_are_reserved_and_then_settled(limiter: Limiter) -> None:
    principal = holder(tokens=100)
    lease = acquire(limiter, principal, 80)

    assert refuse(limiter, principal, 30).limit == "tokens"
    lease.settle(10)

    acquire(limiter, principal, 90)


def test_more_than_estimated_is_a_debt(limiter: Limiter, clock: Clock) -> None:
    principal = holder(tokens=60)
    acquire(limiter, principal, 10).settle(90)

    assert refuse(limiter, principal, 1).retry_after_s == pytest.approx(31)
    clock.now += 31
    acquire(limiter, principal, 1)


def test_a_request_larger_than_the_limit_never_succeeds(limiter: Limiter) -> None:
    refusal = refuse(limiter, holder(tokens=100), 101)

    assert refusal.retry_after_s is None
    assert "more tokens than this key's limit of 100 per minute" in refusal.message


def test_every_sequence_counts_as_a_request(limiter: Limiter) -> None:
    principal = holder(requests=10, concurrency=4)
    lease = limiter.acquire_nowait(principal, Amount(1, sequences=3))
    assert isinstance(lease, Lease)
    assert limiter.open_requests("key:key_1") == 3
    assert dict(lease.headers)["x-ratelimit-remaining-requests"] == "7"

    refusal = limiter.acquire_nowait(principal, Amount(1, sequences=2))
    assert isinstance(refusal, Refusal)
    assert (refusal.limit, refusal.code) == ("concurrency", "rate_limit_exceeded")

    lease.settle(1)
    assert limiter.open_requests("key:key_1") == 0
    limiter.acquire_nowait(principal, Amount(1, sequences=4)).release()  # type: ignore[union-attr]
    refusal = limiter.acquire_nowait(principal, Amount(1, sequences=4))
    assert isinstance(refusal, Refusal)
    assert (refusal.limit, refusal.code) == ("requests", "rate_limit_exceeded")


@pytest.mark.parametrize(("limits", "limit"), [({"concurrency": 4}, "concurrency"), ({"requests": 4}, "requests")])
def test_more_sequences_than_a_limit_never_fit(limits: dict[str, int], limit: str, limiter: Limiter) -> None:
    refusal = limiter.acquire_nowait(holder(**limits), Amount(1, sequences=5))

    assert isinstance(refusal, Refusal)
    assert (refusal.limit, refusal.code, refusal.retry_after_s) == (limit, "exceeds_limit", None)


def test_concurrency(limiter: Limiter) -> None:
    principal = holder(concurrency=2)
    first, second = acquire(limiter, principal), acquire(limiter, principal)

    assert refuse(limiter, principal).limit == "concurrency"
    first.release()

    acquire(limiter, principal)
    assert refuse(limiter, principal).limit == "concurrency"
    second.release()


def test_a_lease_counts_once_however_often_it_is_closed(limiter: Limiter) -> None:
    principal = holder(tokens=100, concurrency=1)
    with acquire(limiter, principal, 50) as lease:
        lease.settle(40)
        lease.settle(0)
        lease.release()

    assert limiter.open_requests("key:key_1") == 0
    assert refuse(limiter, principal, 61).limit == "tokens"
    acquire(limiter, principal, 60)


def test_an_exception_releases_the_lease_and_its_tokens(limiter: Limiter) -> None:
    principal = holder(tokens=100, concurrency=1)

    with pytest.raises(RuntimeError), acquire(limiter, principal, 100):
        raise RuntimeError

    acquire(limiter, principal, 100)


def test_headers_are_those_of_openai(limiter: Limiter, clock: Clock) -> None:
    principal = holder(requests=60, tokens=6000)

    headers = dict(acquire(limiter, principal, 150).headers)

    assert headers == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5850",
        "x-ratelimit-reset-tokens": "1.5s",
    }


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0ms"), (0.0191, "20ms"), (1, "1s"), (59.5, "59.5s"), (60, "1m0s"), (361.25, "6m1.25s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_changed_limits_hold_at_once_and_keep_what_is_open(limiter: Limiter) -> None:
    acquire(limiter, holder(concurrency=5))
    acquire(limiter, holder(concurrency=5))

    assert refuse(limiter, holder(concurrency=2)).limit == "concurrency"


def test_keys_do_not_share(limiter: Limiter) -> None:
    acquire(limiter, holder(requests=1))

    headers = dict(acquire(limiter, Principal("key_2", "acme", limits=Limits(requests_per_minute=1))).headers)

    assert headers["x-ratelimit-remaining-requests"] == "0", "its own, and all of it"
    assert refuse(limiter, holder(requests=1)).whose == "key"


def test_a_raised_limit_keeps_what_is_used(limiter: Limiter) -> None:
    for _ in range(2):
        acquire(limiter, holder(requests=2))

    headers = dict(acquire(limiter, holder(requests=10)).headers)

    assert headers["x-ratelimit-remaining-requests"] == "7"


def test_keys_of_a_tenant_share_its_limits(limiter: Limiter) -> None:
    one, other = (
        Principal(key, "acme", limits=Limits(100), tenant_limits=Limits(requests_per_minute=3, concurrency=2))
        for key in ("key_1", "key_2")
    )
    first = acquire(limiter, one)
    acquire(limiter, other)

    refusal = refuse(limiter, other)
    first.release()
    headers = dict(acquire(limiter, other).headers)

    assert (refusal.limit, refusal.whose) == ("concurrency", "tenant")
    assert "This tenant may have 2" in refusal.message
    assert headers["x-ratelimit-limit-requests"] == "3", "the tightest limit is shown"
    assert refuse(limiter, Principal("key_3", "acme", tenant_limits=Limits(3))).whose == "tenant"


def test_a_refusal_by_the_tenant_uses_nothing_of_the_key(limiter: Limiter) -> None:
    principal = Principal("key_1", "acme", limits=Limits(2), tenant_limits=Limits(concurrency=1))
    lease = acquire(limiter, principal)
    for _ in range(5):
        refuse(limiter, principal)
    lease.release()

    headers = dict(acquire(limiter, principal).headers)

    assert headers["x-ratelimit-remaining-requests"] == "0", "two of two: those that were let through"


def test_keys_out_of_use_are_forgotten(clock: Clock) -> None:
    store = MemoryStore(clock)
    limiter = Limiter(store)
    for number in range(5000):
        acquire(limiter, Principal(f"key_{number}", "t", limits=Limits(concurrency=1))).release()
        clock.now += 1

    assert len(store._rates) < 2048


def test_keys_with_open_requests_are_not_forgotten(clock: Clock) -> None:
    limiter = Limiter(MemoryStore(clock))
    acquire(limiter, Principal("held", "t", limits=Limits(concurrency=1)))
    for number in range(3000):
        clock.now += 60
        acquire(limiter, Principal(f"key_{number}", "t", limits=Limits(concurrency=1))).release()

    assert limiter.open_requests("key:held") == 1


_folders = itertools.count()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    shared=st.booleans(),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["ask", "settle", "release", "wait"]),
            st.integers(0, 300),
            st.integers(0, 20),
        ),
        max_size=80,
    ),
)
def test_no_sequence_leaks_or_exceeds(tmp_path: Path, shared: bool, steps: list[tuple[str, int, int]]) -> None:
    """A naive count of open leases agrees at every step; when all is over, everything is available again."""
    clock = Clock()
    store = SharedStore(tmp_path / str(next(_folders)), clock) if shared else MemoryStore(clock)
    store.open()
    limiter = Limiter(store)
    principal = holder(requests=20, tokens=500, concurrency=3)
    open_leases: list[Lease] = []
    granted: list[float] = []
    for kind, amount, which in steps:
        if kind == "ask":
            decision = limiter.acquire_nowait(principal, Amount(amount))
            if isinstance(decision, Lease):
                open_leases.append(decision)
                granted.append(clock.now)
        elif kind == "wait":
            clock.now += amount / 10
        elif open_leases:
            lease = open_leases.pop(which % len(open_leases))
            lease.settle(amount) if kind == "settle" else lease.release()
        assert limiter.open_requests("key:key_1") == len(open_leases) <= 3
        # A full minute's allowance and a minute's fading: twice the rate in any minute, never more.
        assert sum(1 for moment in granted if clock.now - moment < 60) <= 40
    for lease in open_leases:
        lease.release()
    clock.now += 3600

    assert limiter.open_requests("key:key_1") == 0
    last = acquire(limiter, principal, 500)
    assert dict(last.headers)["x-ratelimit-remaining-requests"] == "19"
    store.close()
