"""What can go wrong in training. `str()` of each is the one line that the user reads.

TrainingError
  DataError     a data file, or one line of it, cannot be used
    UnknownLabel  it has a label that the classifier was not trained on
  RecipeError   a recipe has an unknown or impossible setting
  SourceError   the model to start from cannot be used
  DivergedError a loss is beyond any number
"""

from __future__ import annotations


class TrainingError(Exception):
    """Any failure that the user can fix."""


class DataError(TrainingError):
    """A data file cannot be used; names the file, and the line where one is to blame."""


class UnknownLabel(DataError):
    """A label that the classifier was not trained on."""


class RecipeError(TrainingError):
    """A recipe cannot be run; names the file and the setting."""


class SourceError(TrainingError):
    """The model to start from is of the wrong kind or cannot be loaded."""


class DivergedError(TrainingError):
    """A model's loss is beyond any number: its training diverged, or its weights are broken."""
