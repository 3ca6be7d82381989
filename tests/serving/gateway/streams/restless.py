"""Cleaners that are shown everything as it comes, to hold those against that put ordinary words off."""

from __future__ import annotations

from typing import Any

from serving.guard import Answers


class Restless:
    """A cleaner that never says that ordinary words pass."""

    at_rest = False

    def __init__(self, guard: Answers) -> None:
        self._stream = guard.stream()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class RestlessGuard:
    """A guard whose cleaners are restless."""

    def __init__(self, guard: Answers) -> None:
        self._guard = guard

    def stream(self) -> Any:
        return Restless(self._guard)
