"""How fast a queue empties, for `Retry-After` and for deadlines that cannot be met."""

from __future__ import annotations

# Weight of the newest gap: the last thirty or so departures count.
_NEWEST = 1 / 16


class DrainRate:
    """Departures per second while something waited: an exponentially weighted mean of the gaps between them.

    Times without a queue say nothing about how fast one would empty, and do not count. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._gap_s = 0.0
        self._num_gaps = 0
        self._since: float | None = None

    def backlogged(self, now: float) -> None:
        """Something begins to wait."""
        if self._since is None:
            self._since = now

    def departed(self, now: float) -> None:
        """A waiting request was granted its permit."""
        since = now if self._since is None else self._since
        self._num_gaps += 1
        self._gap_s += (now - since - self._gap_s) * max(_NEWEST, 1 / self._num_gaps)
        self._since = now

    def emptied(self) -> None:
        """Nothing waits any more."""
        self._since = None

    def per_second(self, now: float) -> float | None:
        """The rate, lower the longer nothing has left; None while none can be told."""
        silent = 0.0 if self._since is None else now - self._since
        gap = max(self._gap_s, silent / 16) if self._num_gaps else silent
        return 1 / gap if gap > 0 else None
