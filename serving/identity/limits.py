"""Limits of one key: requests and tokens a minute, requests open at once.

Token buckets in this process: a bucket holds one minute's allowance and refills steadily, so that a key may
spend a minute at once and then goes on at its rate. Called from the event loop only; there are no locks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from serving.identity.principal import Limits, Principal

LimitName = Literal["requests", "tokens", "concurrency"]
RateLimitHeaders = tuple[tuple[str, str], ...]

# A full minute without use fills every bucket that is not in debt: such state can be forgotten.
_FORGET_AFTER_S = 60.0
_SWEEP_AT_LEAST = 1024
# When all slots are taken nobody knows how long answers still take; clients try again after this.
_CONCURRENCY_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request may not start now."""

    limit: LimitName
    allowed: int
    """The limit's value: per minute, or at once."""
    remaining: int
    retry_after_s: float | None
    """When it could succeed; None: never, it needs more tokens than a minute's allowance."""
    headers: RateLimitHeaders
    """`x-ratelimit-*` as OpenAI's."""

    @property
    def message(self) -> str:
        """One line for the client."""
        if self.limit == "concurrency":
            return f"This key may have {self.allowed} requests open at once; wait for one to finish."
        if self.retry_after_s is None:
            return f"The request needs more tokens than this key's limit of {self.allowed} per minute allows."
        wait = _duration(self.retry_after_s)
        return f"This key's limit of {self.allowed} {self.limit} per minute is used up; try again in {wait}."


class _Bucket:
    """An allowance per minute. `level` may be negative: settled usage above the estimate is a debt."""

    __slots__ = ("capacity", "level", "rate", "updated")

    def __init__(self, per_minute: int, now: float) -> None:
        self.capacity = float(per_minute)
        self.rate = per_minute / 60.0
        self.level = self.capacity
        self.updated = now

    def refill(self, now: float) -> None:
        if now > self.updated:
            self.level = min(self.capacity, self.level + (now - self.updated) * self.rate)
            self.updated = now

    def wait_for(self, amount: float) -> float | None:
        """Seconds until `amount`, which `level` does not cover, can be taken; None: never."""
        return None if amount > self.capacity else (amount - self.level) / self.rate

    @property
    def remaining(self) -> int:
        return max(0, int(self.level))

    @property
    def reset_s(self) -> float:
        return max(0.0, (self.capacity - self.level) / self.rate)


class _KeyState:
    """What one key has used."""

    __slots__ = ("in_flight", "limits", "requests", "tokens", "used")

    def __init__(self, limits: Limits, now: float) -> None:
        self.in_flight = 0
        self.used = now
        self.apply(limits, now)

    def apply(self, limits: Limits, now: float) -> None:
        """Take on changed limits; what is in flight stays counted."""
        self.limits = limits
        self.requests = _Bucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self.tokens = _Bucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None

    def refill(self, now: float) -> None:
        self.used = now
        if self.requests is not None:
            self.requests.refill(now)
        if self.tokens is not None:
            self.tokens.refill(now)

    def is_forgettable(self, now: float) -> bool:
        in_debt = self.tokens is not None and self.tokens.level < 0
        return not self.in_flight and not in_debt and now - self.used >= _FORGET_AFTER_S

    def headers(self) -> RateLimitHeaders:
        found: list[tuple[str, str]] = []
        for name, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket is not None:
                found.append((f"x-ratelimit-limit-{name}", str(int(bucket.capacity))))
                found.append((f"x-ratelimit-remaining-{name}", str(bucket.remaining)))
                found.append((f"x-ratelimit-reset-{name}", _duration(bucket.reset_s)))
        return tuple(found)


class Lease:
    """Permission for one request. Settle it with what was used, and release it on every path.

    As a context manager it releases by itself. `settle` and `release` may be repeated; only the first counts.
    """

    __slots__ = ("_clock", "_estimate", "_state", "headers")

    def __init__(self, state: _KeyState | None, estimate: int, clock: Callable[[], float]) -> None:
        self._state = state
        self._estimate = estimate
        self._clock = clock
        self.headers: RateLimitHeaders = state.headers() if state is not None else ()
        """`x-ratelimit-*` as OpenAI's, as of the start of the request; empty for a key without limits."""

    def settle(self, tokens: int) -> None:
        """Replace the estimate by the `tokens` really used, and free the slot."""
        state, self._state = self._state, None
        if state is None:
            return
        state.in_flight -= 1
        if state.tokens is not None:
            state.tokens.refill(self._clock())
            state.tokens.level = min(state.tokens.capacity, state.tokens.level + self._estimate - tokens)

    def release(self) -> None:
        """Free the slot; a lease that was never settled used no tokens."""
        self.settle(0)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Limiter:
    """The limits of all keys. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[str, _KeyState] = {}
        self._sweep_at = _SWEEP_AT_LEAST
        self._unlimited = Lease(None, 0, clock)

    def try_acquire(self, principal: Principal, estimated_tokens: int) -> Lease | Refusal:
        """Start a request of about `estimated_tokens` (prompt and longest answer), or say why not.

        A refused request uses up nothing.
        """
        limits = principal.limits
        if limits.requests_per_minute is None and limits.tokens_per_minute is None and limits.concurrency is None:
            return self._unlimited
        state = self._state_of(principal.key_id, limits)
        if limits.concurrency is not None and state.in_flight >= limits.concurrency:
            return Refusal("concurrency", limits.concurrency, 0, _CONCURRENCY_RETRY_S, state.headers())
        requests, tokens = state.requests, state.tokens
        if requests is not None and requests.level < 1.0:
            return _refuse("requests", requests, 1.0, state)
        if tokens is not None and tokens.level < estimated_tokens:
            return _refuse("tokens", tokens, estimated_tokens, state)
        if requests is not None:
            requests.level -= 1.0
        if tokens is not None:
            tokens.level -= estimated_tokens
        state.in_flight += 1
        return Lease(state, estimated_tokens, self._clock)

    def in_flight(self, key_id: str) -> int:
        """Leases of a limited key that are neither settled nor released."""
        state = self._states.get(key_id)
        return state.in_flight if state is not None else 0

    def _state_of(self, key_id: str, limits: Limits) -> _KeyState:
        now = self._clock()
        state = self._states.get(key_id)
        if state is None:
            self._sweep(now)
            state = self._states[key_id] = _KeyState(limits, now)
        elif state.limits is not limits and state.limits != limits:
            state.apply(limits, now)
        state.refill(now)
        return state

    def _sweep(self, now: float) -> None:
        """Forget keys that are not in use, when many have gathered."""
        if len(self._states) < self._sweep_at:
            return
        self._states = {key: state for key, state in self._states.items() if not state.is_forgettable(now)}
        self._sweep_at = max(_SWEEP_AT_LEAST, 2 * len(self._states))


def _refuse(limit: LimitName, bucket: _Bucket, amount: float, state: _KeyState) -> Refusal:
    return Refusal(limit, int(bucket.capacity), bucket.remaining, bucket.wait_for(amount), state.headers())


def _duration(seconds: float) -> str:
    """As in OpenAI's headers: `6m0s`, `1.5s`, `20ms`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds * 1000) / 1000, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
