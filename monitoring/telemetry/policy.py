"""The policy's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from monitoring.telemetry import buckets, names
from monitoring.telemetry.series import Counter, Histogram


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
