"""An adapter that engines are to serve while they run."""

from __future__ import annotations

import re
from dataclasses import dataclass

# What engines are told to call one: a version stays what it is, so that no answer changes its adapter half-way.
SERVED_NAME = re.compile(r"([a-z0-9][a-z0-9._-]*)@[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class LiveAdapter:
    """Which version of a registered adapter is served."""

    name: str
    """What clients write as `model`."""
    version: int
    digest: str
    """Of its files, `sha256:HEX`."""
    base: str
    """Digest of the checkpoint that it was trained on."""
    since: float = 0.0
    """Unix seconds."""

    @property
    def served_name(self) -> str:
        """Its name in engines, `NAME@VERSION`."""
        return f"{self.name}@{self.version}"
