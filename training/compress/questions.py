"""Multiple-choice questions: whether a smaller model still prefers the right answer.

A line is `{"question": …, "choices": […, …], "answer": N}`, counted from 0. The model reads `Question: …`, a line
`Answer:`, and each choice in turn; its answer is the choice that it finds likeliest, all tokens together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import IGNORED, Example
from training.data.rows import decoded
from training.errors import DataError, SourceError

QUESTIONS = Path(__file__).with_name("questions.jsonl")
"""Of general knowledge, made for this purpose: easy ones, as small models answer no others better than by chance."""


@dataclass(frozen=True)
class Question:
    """One of them."""

    question: str
    choices: list[str]
    answer: int


@dataclass(frozen=True)
class QuestionFile:
    """A file that was read, and the digest of exactly what was read."""

    sha256: str
    questions: list[Question]


@dataclass(frozen=True)
class Questions:
    """Encoded for one model: an example for each choice, those of a question one after another."""

    examples: list[Example]
    num_choices: list[int]
    answers: list[int]

    def right(self, losses: Sequence[float]) -> NDArray[np.float64]:
        """1 for each question whose right choice has the smallest of these losses of `examples`, else 0."""
        ends = [0, *accumulate(self.num_choices)]
        chosen = [int(np.argmin(losses[start:end])) for start, end in pairwise(ends)]
        is_right: NDArray[np.float64] = (np.array(chosen) == np.array(self.answers)).astype(np.float64)
        return is_right


def read_questions(path: Path) -> QuestionFile:
    """Raises DataError naming the line that cannot be used."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    questions = []
    for number, line in enumerate(decoded(content, path).split("\n"), start=1):
        if line.strip():
            questions.append(_question(line, f"{path}:{number}"))
    if not questions:
        raise DataError(f"{path}: holds no questions")
    return QuestionFile(hashlib.sha256(content).hexdigest(), questions)


def encode_questions(file: QuestionFile, model: Path) -> Questions:
    """Encode with a model's tokenizer; only the choices' tokens have labels. Raises SourceError where it has none."""
    from tokenizers import Tokenizer

    try:
        encoder = Tokenizer.from_file(str(model / "tokenizer.json"))
    except Exception as error:  # the library raises Exception itself
        raise SourceError(f"{model} has no usable tokenizer.json: {error}") from None
    # A question that spells a control token is text here.
    encoder.encode_special_tokens = True
    examples = [
        _example(encoder, f"Question: {question.question}\nAnswer:", choice)
        for question in file.questions
        for choice in question.choices
    ]
    return Questions(
        examples,
        [len(question.choices) for question in file.questions],
        [question.answer for question in file.questions],
    )


def _example(encoder: Any, prompt: str, choice: str) -> Example:
    # Encoded together: alone, the choice would begin with other tokens than behind a prompt.
    encoding = encoder.encode(f"{prompt} {choice}", add_special_tokens=False)
    labels = [
        token if end > len(prompt) else IGNORED for token, (_, end) in zip(encoding.ids, encoding.offsets, strict=True)
    ]
    return Example(encoding.ids, labels, choice)


def _question(line: str, where: str) -> Question:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: is not JSON: {error}") from None
    question, choices, answer = (
        (row.get("question"), row.get("choices"), row.get("answer")) if isinstance(row, dict) else (None, None, None)
    )
    if not isinstance(question, str) or not question.strip():
        raise DataError(f'{where}: has no "question"')
    if not isinstance(choices, list) or not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise DataError(f'{where}: "choices" is not a list of texts')
    if len(choices) < 2:
        raise DataError(f"{where}: has fewer than two choices")
    # bool is an int in Python, and true no number of a choice.
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise DataError(f'{where}: "answer" is not the number of a choice, from 0 to {len(choices) - 1}')
    return Question(question, choices, answer)
