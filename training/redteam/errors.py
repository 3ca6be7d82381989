"""What can go wrong in a run. `str()` of each is the one line that the user reads."""

from __future__ import annotations

from training.errors import DataError, TrainingError


class SuiteError(DataError):
    """A suite or a set of prompts cannot be used; names the file."""


class TargetError(TrainingError):
    """The server to be attacked does not answer, or not as an OpenAI-compatible one does."""
