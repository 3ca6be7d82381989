"""Clocks that disagree: keys and tokens expire, budgets begin anew and receipts are dated by them."""

from __future__ import annotations

from collections.abc import Iterator

from serving.doctor.finding import Finding, warning

# HTTP dates are whole seconds, and an answer takes its time.
TOLERATED_S = 5.0


def check_clock(whose: str, their_time: float, asked_at: float, answered_at: float) -> Iterator[Finding]:
    """Compare a clock with this machine's. All times are Unix seconds; theirs was read between the other two."""
    ahead_s = their_time - answered_at
    behind_s = asked_at - their_time
    apart_s = max(ahead_s, behind_s)
    if apart_s > TOLERATED_S:
        direction = "ahead of" if ahead_s > 0 else "behind"
        yield warning(
            f"the clock of {whose} is {apart_s:.0f} s {direction} this machine's",
            "keys and tokens expire, limits and budgets begin anew, and receipts are dated at the wrong moment",
            "synchronize both machines with NTP: `chronyc tracking` or `timedatectl` shows which one is off",
        )
