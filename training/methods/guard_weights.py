"""What a training of one of the guard's models gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.registry import DataDigest

CARD = "data-card.json"
"""Lies beside the weights, in the checkpoint and in the package."""


@dataclass(frozen=True, slots=True)
class GuardWeights:
    """What a training of one of the guard's models gives."""

    write: Callable[[Path], None]
    """Writes the weights to a file, the same bytes for the same weights."""
    shipped: Path
    """The package's file of such weights, which the gateway reads."""
    evaluation: dict[str, float]
    card: dict[str, Any]
    """What a user has to know about the data."""
    digests: list[DataDigest]
