"""Texts of an answer, and those that the gateway writes in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

FILTERED = "content_filter"
"""The finish reason of a refusal, as OpenAI's API has it."""


class AnswerText(NamedTuple):
    """One text of an answer: which choice, and which of its texts (`content`, `text`, `arguments` …)."""

    choice: int
    kind: str
    text: str
    call: int = 0
    """Which tool call the arguments are of."""


class Written(NamedTuple):
    """A text of ours in place of a choice's, and why it ends."""

    text: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class WrittenAnswer:
    """An answer that the gateway writes itself: its choices, and what goes around them."""

    choices: Mapping[int, Written]
    number: str
    """What the answer's id ends in."""
    created: int
    """Unix seconds."""
    model: str
    prompt_tokens: int
    completion_tokens: int
    wants_usage: bool
