"""Classifiers of attacks and toxicity: text in, scores out; what follows from a score is decided elsewhere.

`ClassifierPool` runs them on threads of its own with a time budget. Names: `attack` (categories `jailbreak`,
`illicit`), `indirect` (`indirect_injection`, for data that gives orders), `toxicity` (`toxicity`, `hate`, and with
Perspective `threat`). `make_pool` makes those that come with Signet; nothing is read or imported before it is asked.
"""

from serving.guard.classifiers.classifier import (
    HATE,
    ILLICIT,
    INDIRECT,
    JAILBREAK,
    THREAT,
    TOXICITY,
    Classifier,
    Failure,
    Verdicts,
)
from serving.guard.classifiers.data import mark_as_data
from serving.guard.classifiers.default import make_pool
from serving.guard.classifiers.pool import ClassifierPool
from serving.guard.classifiers.settings import ClassifierSettings, ClassifiersSettings, PerspectiveSettings

__all__ = [
    "HATE",
    "ILLICIT",
    "INDIRECT",
    "JAILBREAK",
    "THREAT",
    "TOXICITY",
    "Classifier",
    "ClassifierPool",
    "ClassifierSettings",
    "ClassifiersSettings",
    "Failure",
    "PerspectiveSettings",
    "Verdicts",
    "make_pool",
    "mark_as_data",
]
