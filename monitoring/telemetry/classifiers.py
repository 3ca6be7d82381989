"""The classifiers' metrics: what they said, and how often they said nothing."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from monitoring.telemetry import buckets, names
from monitoring.telemetry.series import Counter, Histogram


class ClassifierMetrics:
    """All series of one gateway's classifiers. Called from the event loop only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(names.CLASSIFIER_ANSWERS, registry)
        self._flags = Counter(names.CLASSIFIER_FLAGS, registry)
        self._seconds = Histogram(names.CLASSIFIER_SECONDS, buckets.CLASSIFIER_S, registry)

    def expect(self, classifier: str, categories: Iterable[str], action: str) -> None:
        """A classifier may be asked from now on, and do `action` where it flags a text."""
        for outcome in ("done", "timeout", "error"):
            self._answers.expect(classifier, outcome)
        for category in categories:
            self._flags.expect(category, action)

    def answered(self, classifier: str, outcome: str, seconds: float) -> None:
        """A classifier was asked; `outcome` is done, timeout or error."""
        self._answers.add(1, classifier, outcome)
        self._seconds.labels(classifier).observe(seconds)

    def flagged(self, category: str, action: str) -> None:
        """A text was flagged; `action` is flag, block or report (in an answer of /v1/moderations)."""
        self._flags.add(1, category, action)
