"""The interface of a discovery source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from serving.gateway.engines.address import Address


class Report(Protocol):
    """What a source tells the pool. Called on the event loop."""

    def found(self, addresses: Sequence[Address]) -> None:
        """These are all the engines of the source now."""

    def absent(self) -> None:
        """The source says that there is none: those that do not answer their probes go."""

    def failed(self, reason: str) -> None:
        """The source cannot say just now: the engines it found last stay."""


class Source(Protocol):
    """One place to find engines, named by `label`: a reload keeps a source running whose label stays."""

    @property
    def label(self) -> str: ...

    async def run(self, report: Report) -> None:
        """Report until cancelled."""
