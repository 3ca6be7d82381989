"""Criticism and revision: a model is shown what its answer breaks, and writes it again.

After Bai et al., "Constitutional AI" (2022), done at the time of the answer in place of the training.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from serving.gateway.endpoints.texts import AnswerText
from serving.gateway.policy.review import Review
from serving.guard import Answers
from serving.guard.policy import CheckFailed, JudgedText, Principle, decide
from serving.guard.policy.wording import critique_messages, revision_messages

_CRITIQUE_TOKENS = 256
_LEAST_REVISION_TOKENS = 256
# A token is at least one byte, and most are several: a revision may be somewhat longer than what it revises.
_CHARS_PER_REVISION_TOKEN = 2


async def revise(
    review: Review, answers: Answers, principle: Principle, own: Sequence[AnswerText]
) -> tuple[str | None, Principle]:
    """A text that keeps all principles, or None; and the principle that was broken last.

    Only words can be written again: an answer with a tool call is not revised.
    """
    if any(answer.kind in ("arguments", "partial_json", "input") for answer in own):
        return None, principle
    text = "\n".join(answer.text for answer in own if answer.kind in ("content", "text"))
    file = review.policy.file
    broken = principle
    try:
        async with asyncio.timeout(file.revise_budget_ms / 1000):
            for _ in range(file.revise_rounds):
                text, counts = await _round(review, answers, broken, text)
                verdict = await decide(
                    review.answer,
                    [JudgedText(text)],
                    counts,
                    review.judge,
                    on_failure=file.on_failure,
                    budget_s=file.budget_ms / 1000,
                    offload=review.judge.offload,
                )
                review.note(verdict.decisions, "output")
                if verdict.passes:
                    return text, principle
                broken = verdict.stopped_by or principle
                if broken.action == "refuse" or verdict.unchecked is not None:
                    break
    except (CheckFailed, TimeoutError):
        pass  # what cannot be revised is refused
    return None, broken


async def _round(review: Review, answers: Answers, principle: Principle, text: str) -> tuple[str, dict[str, int]]:
    """Raises: CheckFailed."""
    judge = review.judge
    critique = await judge.write("critique", critique_messages(principle, text), _CRITIQUE_TOKENS)
    length = max(_LEAST_REVISION_TOKENS, len(text) // _CHARS_PER_REVISION_TOKEN)
    revised = await judge.write("revision", revision_messages(principle, text, critique), length)
    cleaned, report = await judge.offload(len(revised), lambda: answers.clean_text(revised.strip()))
    if not cleaned:
        raise CheckFailed("the revision is empty")
    counts: dict[str, int] = {}
    for (entity, _), count in report.counts.items():
        counts[entity] = counts.get(entity, 0) + count
    return cleaned, counts
