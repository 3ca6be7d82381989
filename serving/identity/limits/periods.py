"""Budget periods in UTC: a day, a calendar month, for ever.

A period is cut into numbered *windows*; a later window has a larger number.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from serving.identity.principal import BudgetPeriod

_DAY_S = 86_400


class Calendar:
    """The windows of the moment. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # Windows stay the same until midnight: asking is one comparison.
        self._until = 0.0
        self._windows: dict[BudgetPeriod, int] = {}

    def window(self, period: BudgetPeriod) -> int:
        """Days since 1970, months since year 0, or 0."""
        now = self._clock()
        if not self._until - _DAY_S <= now < self._until:
            today = datetime.fromtimestamp(now, UTC)
            day = int(now // _DAY_S)
            self._windows = {"day": day, "month": today.year * 12 + today.month - 1, "total": 0}
            self._until = float((day + 1) * _DAY_S)
        return self._windows[period]


def window_start(period: BudgetPeriod, window: int) -> float:
    """Unix seconds at which a window begins."""
    if period == "day":
        return float(window * _DAY_S)
    if period == "month":
        return datetime(window // 12, window % 12 + 1, 1, tzinfo=UTC).timestamp()
    return 0.0


def window_end(period: BudgetPeriod, window: int) -> datetime | None:
    """When the next window begins; None: never."""
    if period == "total":
        return None
    return datetime.fromtimestamp(window_start(period, window + 1), UTC)
