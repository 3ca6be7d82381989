"""What can go wrong in leaving. `str()` of it is the one line that the user reads."""

from __future__ import annotations

from training.errors import TrainingError


class ExportError(TrainingError):
    """The checkpoint cannot be said in the other form, or what was written does not say the same."""
