"""Classifiers of attacks and toxicity: text in, scores out; what follows from a score is decided elsewhere.

`ClassifierPool` runs them on threads of its own with a time budget. Names: `attack` (category `jailbreak`),
`indirect` (`indirect_injection`, for data that gives orders), `toxicity` (`toxicity`, `hate`).
"""

from serving.guard.classifiers.classifier import HATE, INDIRECT, JAILBREAK, TOXICITY, Classifier, Failure, Verdicts
from serving.guard.classifiers.pool import ClassifierPool
from serving.guard.classifiers.settings import ClassifierSettings, ClassifiersSettings, PerspectiveSettings

__all__ = [
    "HATE",
    "INDIRECT",
    "JAILBREAK",
    "TOXICITY",
    "Classifier",
    "ClassifierPool",
    "ClassifierSettings",
    "ClassifiersSettings",
    "Failure",
    "PerspectiveSettings",
    "Verdicts",
]
