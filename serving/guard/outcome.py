"""What the guard did to a text or request, and how it refuses one."""

from __future__ import annotations

from typing import Literal

Action = Literal["mask", "allow", "block", "pseudonymize", "mask_new"]
"""What happens to an entity. `pseudonymize` is for requests, `mask_new` for answers; the others for both."""


class GuardReport:
    """How often each thing was found and what was done: counts only, never a text."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        # A plain dictionary: making a Counter costs more than looking at most texts.
        self.counts: dict[tuple[str, str], int] = {}
        """(entity or class, action) to how often: `("EMAIL_ADDRESS", "mask")`, `("control_token", "inert")` …"""

    def add(self, what: str, action: str, count: int = 1) -> None:
        if count:
            self.counts[what, action] = self.counts.get((what, action), 0) + count

    def merge(self, other: GuardReport) -> None:
        for (what, action), count in other.counts.items():
            self.add(what, action, count)

    @property
    def blocked(self) -> str | None:
        """An entity that was found and is not let through at all."""
        return next((what for what, action in self.counts if action == "block"), None) if self.counts else None

    @property
    def total(self) -> int:
        """How often anything was done."""
        return sum(self.counts.values()) if self.counts else 0

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __repr__(self) -> str:
        return f"GuardReport({self.counts!r})"


class GuardRefusal(Exception):
    """A request that is refused rather than cleaned. Holds no text of the user's but the path of a field."""

    def __init__(self, code: str, message: str, param: str | None = None, report: GuardReport | None = None) -> None:
        super().__init__(message)
        self.code = code
        """Stable, for programs: `unknown_role`, `request_too_deep` …"""
        self.message = message
        """One line for a person: what is wrong and what to do."""
        self.param = param
        """The field, such as `messages[2].role`."""
        self.report = report
        """What was done until then, for those that count."""
        self.status = 400
