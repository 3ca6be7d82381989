"""The circuit of one engine: what its traffic says about its health.

Closed while answers come. Opened by several failures in a row or by a large share of failures; then it lets nothing
through until a time has passed that doubles from one opening to the next (with jitter, so that replicas of the
gateway do not come back together), and after that a single trial request, whose outcome decides (M. Nygard,
"Release It!", 2007).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """When a circuit opens, and for how long.

    `consecutive_failures` in a row open it, and so does a share of `failure_ratio` among the last `window` outcomes.
    It stays open for `backoff_s` seconds, twice as long each time, `max_backoff_s` at the most.
    """

    consecutive_failures: int = 5
    failure_ratio: float = 0.5
    window: int = 20
    backoff_s: float = 1.0
    max_backoff_s: float = 30.0


class Circuit:
    """Counts outcomes; says whether a request may go through. `on_change` is called when the state has changed."""

    def __init__(
        self,
        policy: CircuitPolicy,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._on_change = on_change
        self._clock = clock
        self._jitter = jitter
        self._full_window = (1 << policy.window) - 1
        self._consecutive = 0
        self._openings = 0
        self._retry_at = 0.0
        self._trial_runs = False
        # The last outcomes, one bit each, 1 for a failure: counting them costs no loop.
        self._outcomes = 0
        self._num_outcomes = 0
        self._rests_until = 0.0
        self.state: State = "closed"

    @property
    def rest_s(self) -> float:
        """Seconds for which the engine has asked to be left alone."""
        if not self._rests_until:
            return 0.0
        left = self._rests_until - self._clock()
        if left <= 0:
            self._rests_until = left = 0.0
        return left

    def rest(self, seconds: float) -> None:
        """The engine asks to be left alone for so long (`Retry-After`); its newest word counts."""
        self._rests_until = self._clock() + seconds

    def allows(self) -> bool:
        """Whether a request may be sent now; when half-open, only while no trial runs."""
        if self._rests_until and self.rest_s:
            return False
        if self.state == "closed":
            return True
        if self.state == "open":
            return self._clock() >= self._retry_at
        return not self._trial_runs

    def begin(self) -> bool:
        """A request is sent. True when it is the trial, whose end must then be told by `end_trial`."""
        if self.state == "closed" or not self.allows():
            return False
        self._trial_runs = True
        self._set("half-open")
        return True

    def end_trial(self) -> None:
        """The trial is over; without an outcome (its client left) the next request is a trial again."""
        self._trial_runs = False

    def succeeded(self) -> None:
        """The engine answered. A refusal of what the client got wrong is an answer."""
        if self.state == "closed":
            self._consecutive = 0
            if self._outcomes:
                self._note(0)
            elif self._num_outcomes < self._policy.window:
                self._num_outcomes += 1
        elif self.state == "half-open":
            self._forget()
            self._openings = 0
            self._set("closed")

    def failed(self) -> None:
        """The engine could not be reached, broke off, stayed silent too long, or refused what another might answer."""
        if self.state == "half-open":
            self._open()
        elif self.state == "closed":
            self._consecutive += 1
            self._note(1)
            if self._consecutive >= self._policy.consecutive_failures or self._too_many():
                self._open()

    def reset(self) -> None:
        """The engine was started anew: nothing of the past counts."""
        self._forget()
        self._openings = 0
        self._rests_until = 0.0
        self._set("closed")

    def _open(self) -> None:
        self._forget()
        wait = min(self._policy.backoff_s * 2**self._openings, self._policy.max_backoff_s)
        self._openings = min(self._openings + 1, 30)
        self._retry_at = self._clock() + wait * (0.5 + self._jitter() / 2)
        self._set("open")

    def _note(self, failure: int) -> None:
        self._outcomes = (self._outcomes << 1 | failure) & self._full_window
        self._num_outcomes = min(self._num_outcomes + 1, self._policy.window)

    def _too_many(self) -> bool:
        full = self._num_outcomes >= self._policy.window
        return full and self._outcomes.bit_count() >= self._policy.failure_ratio * self._policy.window

    def _forget(self) -> None:
        self._consecutive = self._outcomes = self._num_outcomes = 0
        self._trial_runs = False

    def _set(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._on_change()
