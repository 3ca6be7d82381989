"""Waits between attempts at something that fails."""

from __future__ import annotations

import random


class Backoff:
    """Doubling waits with full jitter (M. Brooker, "Exponential Backoff And Jitter", 2015), never under `first_s`."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """Seconds to wait before the next attempt."""
        self._ceiling_s = min(self._ceiling_s * 2, self._longest_s)
        return random.uniform(self._first_s, self._ceiling_s)  # noqa: S311

    def reset(self) -> None:
        """It worked."""
        self._ceiling_s = self._first_s
