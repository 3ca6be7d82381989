"""Where a figure comes from: every row of every table names its source and the day it was read or published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from monitoring.plan.errors import PlanError

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Source:
    """A page, a file or a measurement."""

    where: str
    date: str
    """ISO 8601, as exact as it is known: `2023`, `2026-11-09`."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its source."""

    value: float
    unit: str
    source: Source


def look_up(rows: Mapping[str, Row], name: str, what: str) -> Row:
    """The row of that name; raises PlanError with the names there are."""
    try:
        return rows[name]
    except KeyError:
        raise PlanError(f"no {what} named {name!r}: known are {', '.join(rows)}") from None
