"""Answers that a teacher writes in place of the data's: what a student learns from in sequence distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.data import Example
from training.data.encoding import IGNORED
from training.errors import RecipeError
from training.evaluate.generation import generate_greedily, prompt_of
from training.progress import Track
from training.recipes.distill import TeacherAnswers


@dataclass(frozen=True)
class TeacherExamples:
    """Examples whose last answer the teacher has written."""

    examples: list[Example]
    ended: int
    """How many the teacher ended itself; the others are cut at `max_tokens`, and teach no end."""
    tokens: int
    """In all answers."""


def write_answers(
    teacher: Any,
    examples: Sequence[Example],
    settings: TeacherAnswers,
    pad_token_id: int,
    progress: Track,
) -> TeacherExamples:
    """Have the teacher answer each example's last question, greedily: its likeliest answer (Kim and Rush 2016).

    Raises RecipeError for examples without a question, as blocks of plain text are.
    """
    prompts = [_question(example) for example in examples]
    ends = _ends(teacher, examples)
    written: list[Example] = []
    # Of similar lengths together: padding is read too.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers: dict[int, list[int]] = {}
    for start in range(0, len(order), settings.batch_size):
        indices = order[start : start + settings.batch_size]
        found = generate_greedily(
            teacher, [prompts[index] for index in indices], settings.max_tokens, ends, pad_token_id
        )
        answers.update(zip(indices, found, strict=True))
        progress(len(answers), len(prompts))
    for index, (prompt, example) in enumerate(zip(prompts, examples, strict=True)):
        answer = answers[index]
        labels = [IGNORED] * len(prompt) + answer
        written.append(Example([*prompt, *answer], labels, example.source))
    ended = sum(answer[-1] in ends for answer in answers.values())
    return TeacherExamples(written, ended, sum(map(len, answers.values())))


def _question(example: Example) -> list[int]:
    question = prompt_of(example)
    if not question:
        raise RecipeError(f"answers: {example.source} has no question: a teacher answers chats, not plain text")
    return question


def _ends(teacher: Any, examples: Sequence[Example]) -> list[int]:
    """The teacher's own end of a text, and what closes an answer in these chats."""
    own = teacher.generation_config.eos_token_id
    closing = {example.labels[-1] for example in examples if example.labels[-1] != IGNORED}
    known = set(own if isinstance(own, list) else [own] if own is not None else [])
    # A chat that was cut at max_tokens ends with any token.
    return sorted(known | (closing if len(closing) == 1 else set()))
