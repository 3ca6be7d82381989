"""Service-level objectives, and alerts on how fast their error budgets burn.

Several windows and burn rates, as the Site Reliability Workbook (chapter 5, "Alerting on SLOs") has them: a long
window shows that much of the budget is gone, a short one that it still burns. A burn rate of 1 uses the budget of 30
days up in 30 days. At low traffic one failure is a large share: below `FLOOR` bad events nobody is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from monitoring.alerts.rule import Alert, Group, Record

FLOOR = 10
# Pairs of a long and a short window, and the burn rate above which both must be.
FAST = (("1h", "5m", 14.4), ("6h", "30m", 6.0))
SLOW = (("1d", "2h", 3.0), ("3d", "6h", 1.0))
_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


@dataclass(frozen=True)
class Objective:
    """A share of events that are to be good. `bad` and `all`: counters, with WINDOW for the range."""

    name: str
    title: str
    target: float
    bad: str
    all: str
    exists: str
    """A metric that is there from the start; without it nothing can be said."""
    urgent: Literal["critical", "warning"] = "critical"

    def records(self) -> tuple[Record, ...]:
        """Shares of bad events over each window, and counts of them over the long ones."""
        shares = [
            Record(
                f"signet:{self.name}:bad_ratio_{window}",
                f"{self.bad.replace('WINDOW', window)} / {self.all.replace('WINDOW', window)}",
            )
            for window in _WINDOWS
        ]
        counts = [
            Record(
                f"signet:{self.name}:bad_increase_{window}",
                self.bad.replace("WINDOW", window).replace("rate(", "increase("),
            )
            for window, _, _ in (*FAST, *SLOW)
        ]
        return (*shares, *counts)

    def alerts(self) -> tuple[Alert, ...]:
        """Fast and slow burning, and that nothing can be said."""
        value = "{{ $value | humanizePercentage }}"
        return (
            Alert(
                f"Signet{self.title.title().replace(' ', '')}BurnsFast",
                self._burning(FAST),
                f"{value} of the last hours missed the objective of {self.title}: the month's budget lasts days",
                self.urgent,
                "2m",
                (("slo", self.name),),
            ),
            Alert(
                f"Signet{self.title.title().replace(' ', '')}BurnsSlowly",
                self._burning(SLOW),
                f"{value} of the last days missed the objective of {self.title}: the month's budget will not last",
                "warning",
                "15m",
                (("slo", self.name),),
            ),
            Alert(
                "SignetObjectiveUnknown",
                f"absent({self.exists})",
                f"no metrics of {self.title}: whether the objective holds cannot be said",
                "warning",
                "15m",
                (("slo", self.name),),
            ),
        )

    def _burning(self, pairs: tuple[tuple[str, str, float], ...]) -> str:
        share = f"signet:{self.name}:bad_ratio_"
        return "\nor\n".join(
            f"({share}{long} > {rate:g} * (1 - {self.target})"
            f" and {share}{short} > {rate:g} * (1 - {self.target})"
            f" and signet:{self.name}:bad_increase_{long} > {FLOOR})"
            for long, short, rate in pairs
        )


def _late(histogram: str, bound: str) -> str:
    """Events of a histogram above a bound: those counted, less those below."""
    count, bucket = f"rate({histogram}_count[WINDOW])", f'rate({histogram}_bucket{{le="{bound}"}}[WINDOW])'
    return f"(sum by (namespace) ({count}) - sum by (namespace) ({bucket}))"


AVAILABILITY = Objective(
    "availability",
    "availability",
    0.999,
    bad='sum by (namespace) (rate(signet_gateway_requests_total{status=~"5.."}[WINDOW]))',
    all="sum by (namespace) (rate(signet_gateway_requests_total[WINDOW]))",
    exists="signet_gateway_requests_total",
)
FIRST_TEXT = Objective(
    "first_text",
    "first text",
    0.95,
    bad=_late("signet_gateway_ttft_seconds", "2.5"),
    all="sum by (namespace) (rate(signet_gateway_ttft_seconds_count[WINDOW]))",
    exists="signet_gateway_ttft_seconds_count",
)
NEXT_TEXT = Objective(
    "next_text",
    "next text",
    0.95,
    bad=_late("signet_gateway_inter_token_seconds", "0.2"),
    all="sum by (namespace) (rate(signet_gateway_inter_token_seconds_count[WINDOW]))",
    exists="signet_gateway_inter_token_seconds_count",
    urgent="warning",
)
OBJECTIVES = (AVAILABILITY, FIRST_TEXT, NEXT_TEXT)

GROUPS = tuple(Group(f"signet-{each.name}", (*each.records(), *each.alerts())) for each in OBJECTIVES)
