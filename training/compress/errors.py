"""What can go wrong in compression. `str()` of each is the one line that the user reads.

TrainingError
  CompressError
    EnvironmentUnavailable   the compressor's environment cannot be made
    NotQuantizable           this model cannot be compressed in this way
    WorkerFailed             the compressor ended without a result
    EngineFailed             the engine does not serve what was made, or not in time
"""

from __future__ import annotations

from training.errors import TrainingError


class CompressError(TrainingError):
    """Any failure of compression that the user can fix."""


class EnvironmentUnavailable(CompressError):
    """The environment of the compressor cannot be made; says what is missing."""


class NotQuantizable(CompressError):
    """The model is of a kind or shape that the scheme cannot compress."""


class WorkerFailed(CompressError):
    """The compressor's program ended without a result."""


class EngineFailed(CompressError):
    """The engine cannot be measured with a checkpoint."""
