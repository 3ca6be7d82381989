"""What the policy has to say about one request, from its question to its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from serving.gateway.policy.model_judge import ModelJudge
from serving.guard.policy import Decision, Policy, Principle, Rules


@dataclass(slots=True)
class Review:
    """The principles that concern a request, and what was decided so far. Holds no text."""

    policy: Policy
    question: Rules
    answer: Rules
    judge: ModelJudge
    decisions: Counter[tuple[Decision, str]] = field(default_factory=Counter)
    """(decision, direction) to how often; those that are not on record yet."""
    refused_by: Principle | None = None
    """The question is answered with this principle's reason, and no engine asked."""
    outcome: tuple[str, str] | None = None
    """Action and id of the principle that changed what the client gets."""

    @property
    def reads_answer(self) -> bool:
        """Whether the answer's texts have to be collected."""
        return bool(self.answer.rules)

    @property
    def holds_answer(self) -> bool:
        """Whether nothing of the answer may be sent before all of it is known."""
        return self.answer.holds

    def note(self, decisions: Iterable[Decision], direction: str) -> None:
        self.decisions.update((decision, direction) for decision in decisions)

    def header(self) -> list[tuple[bytes, bytes]]:
        """`X-Signet-Policy`, where a principle changed what the client gets."""
        if self.outcome is None:
            return []
        action, principle = self.outcome
        return [(b"x-signet-policy", f"{action};principle={principle}".encode())]
