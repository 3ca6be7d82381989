"""What a check yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. Each text is a sentence without its full stop, and holds no secret."""

    severity: Severity
    what: str
    why: str
    """Why it matters."""
    fix: str


error = partial(Finding, "error")
"""Something does not work, or will not."""
warning = partial(Finding, "warning")
"""It works, but worse than it seems, or not for long."""


class NotChecked(Exception):
    """A check, or the rest of it, cannot be made; `str()` says why. No fault of what is checked."""


@dataclass(frozen=True, slots=True)
class Check:
    """A subject and what examines it. The function may raise NotChecked; any other exception is our own fault."""

    subject: str
    run: Callable[[], Iterator[Finding]]


def check(subject: str, function: Callable[..., Iterator[Finding]], *arguments: Any) -> Check:
    """`function`, to be called with `arguments` when it is its turn."""
    return Check(subject, partial(function, *arguments))
