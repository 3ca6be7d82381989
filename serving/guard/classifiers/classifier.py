"""The one interface of classifiers, and what is known about a text once they were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

JAILBREAK = "jailbreak"
"""Category: the text tries to talk a model out of its instructions or limits."""
ILLICIT = "illicit"
"""Category: the text asks for something harmful, plainly or in a story."""
INDIRECT = "indirect_injection"
"""Category: data (a tool's result, a document) that gives the assistant instructions."""
TOXICITY = "toxicity"
"""Category: insults, hate, threats, obscenity."""
HATE = "hate"
"""Category: toxicity against a group of people."""
THREAT = "threat"
"""Category: toxicity that threatens somebody; scored by Perspective only."""

Failure = Literal["timeout", "error"]


class Classifier(Protocol):
    """Scores texts. Pure and blocking: the pool calls it on a thread of its own, several threads at a time."""

    @property
    def name(self) -> str:
        """Which classifier, as in the settings and metrics: `attack`, `indirect`, `toxicity`, `perspective`."""

    @property
    def categories(self) -> tuple[str, ...]:
        """What it gives scores for."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """For each category the score from which on a text is flagged, chosen by the rate of false flags."""

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """For each text a score from 0 to 1 for each category: the calibrated probability that it is one."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the classifiers that were asked say about one text. Holds no text."""

    scores: Mapping[str, float] = field(default_factory=dict)
    """Category to score; a category whose classifier failed is missing."""
    flagged: frozenset[str] = frozenset()
    """Categories at or above their threshold."""
    failed: Mapping[str, Failure] = field(default_factory=dict)
    """Names of classifiers that gave no answer, and why."""
    closed: bool = False
    """One of these is set to fail closed: the text counts as not cleared."""
