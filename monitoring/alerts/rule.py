"""Rules of Prometheus: what is written down in Python, and what becomes of it in a rule file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from monitoring.promql import narrowed

Json = dict[str, Any]

# The chart puts the release's own in their place: two releases in one cluster, or one namespace, alert for themselves.
NAMESPACE = 'namespace="signet"'
GATEWAYS = 'job="signet-gateway"'
ENGINES = 'job=~"signet-engine-.+"'
PODS = '"signet-.+"'
# KEDA names the autoscaler that it makes after its own object.
AUTOSCALERS = '"(keda-hpa-)?signet-.+"'
RUNBOOKS = "docs/guides/runbooks.md"


@dataclass(frozen=True)
class Record:
    """A query whose result is kept under a name, `signet:THING:WHAT_WINDOW`."""

    name: str
    promql: str

    def json(self) -> Json:
        """The rule as Prometheus reads it."""
        return {"record": self.name, "expr": _of_one_release(self.promql)}


@dataclass(frozen=True)
class Alert:
    """A condition that a person should know of.

    `severity`: `critical` wakes somebody up, since clients are failing now or will be in minutes; `warning` is for
    working hours. `says`: one line, in which labels stand as `{{ $labels.engine }}`. `holds`: how long the condition
    must last. Its runbook is the section of that name in docs/guides/runbooks.md.
    """

    name: str
    promql: str
    says: str
    severity: Literal["critical", "warning"]
    holds: str = "0s"
    labels: tuple[tuple[str, str], ...] = ()

    def json(self) -> Json:
        """The rule as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": _of_one_release(self.promql),
            "for": self.holds,
            "labels": {"severity": self.severity, **dict(self.labels)},
            "annotations": {"summary": self.says, "runbook_url": f"{RUNBOOKS}#{self.name.lower()}"},
        }


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated together, in this order."""

    name: str
    rules: tuple[Record | Alert, ...]
    interval: str = "30s"

    def json(self) -> Json:
        """The group as Prometheus reads it."""
        return {"name": self.name, "interval": self.interval, "rules": [rule.json() for rule in self.rules]}


def _of_one_release(promql: str) -> str:
    return narrowed(promql, lambda metric: NAMESPACE)
