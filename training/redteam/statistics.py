"""Shares with the interval that so few attempts leave open."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from training.redteam.attempt import Attempt

_Z = 1.959964
"""Of a two-sided interval of 95%."""


@dataclass(frozen=True)
class Share:
    """How many of how many; `low` and `high` are Wilson's interval of 95%."""

    count: int
    total: int

    @property
    def rate(self) -> float | None:
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """Nothing known is everything possible."""
        if not self.total:
            return 0.0, 1.0
        share = self.count / self.total
        spread = _Z * _Z / self.total
        middle = share + spread / 2
        half = _Z * math.sqrt(share * (1 - share) / self.total + spread / self.total / 4)
        low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
        return (max(0.0, low) if self.count else 0.0), (min(1.0, high) if self.count < self.total else 1.0)

    def to_json(self) -> dict[str, float | int | None]:
        low, high = self.interval
        rate = None if self.rate is None else round(self.rate, 4)
        return {"count": self.count, "total": self.total, "rate": rate, "low": round(low, 4), "high": round(high, 4)}


def share_of_bad(attempts: Collection[Attempt]) -> Share:
    """The share that went as one does not want, of those that have an outcome."""
    counted = [attempt for attempt in attempts if not attempt.failed]
    return Share(sum(attempt.bad for attempt in counted), len(counted))
