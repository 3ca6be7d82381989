"""Metrics of what checks questions and answers: classifiers and the policy."""

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


class PolicyMetrics:
    """What was decided and what it took. Labels are ids of the policy file."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._decisions = Counter(names.POLICY_DECISIONS, registry)
        self._seconds = Histogram(names.POLICY_SECONDS, buckets.POLICY_S, registry)
        self._tokens = Counter(names.POLICY_TOKENS, registry)

    def expect(self, principle: str, action: str, where: str) -> None:
        """A principle is in force; `where` is input, output or both."""
        for direction in ("input", "output") if where == "both" else (where,):
            for decision in (action, "failed"):
                self._decisions.expect(principle, decision, direction)

    def decided(self, principle: str, action: str, direction: str, count: int = 1) -> None:
        """A principle was broken, or could not be checked."""
        self._decisions.add(count, principle, action, direction)

    def asked(self, kind: str, seconds: float) -> None:
        """A classifier or a model has answered."""
        self._seconds.labels(kind).observe(seconds)

    def tokens(self, prompt: int, completion: int) -> None:
        """What a model's answer took."""
        self._tokens.add(prompt, "prompt")
        self._tokens.add(completion, "completion")
