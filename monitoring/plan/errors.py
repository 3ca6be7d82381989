"""What cannot be planned. `str()` is the one line that the user reads."""

from __future__ import annotations


class PlanError(Exception):
    """A model, an accelerator or a load that nothing can be said about."""
