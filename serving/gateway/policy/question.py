"""The texts of a question, wherever the endpoints put them, with whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

_FIELDS = (
    ("system", "system"),
    ("instructions", "system"),
    ("messages", "user"),
    ("input", "user"),
    ("prompt", "user"),
    ("suffix", "user"),
)
"""Fields of a request that hold the question, and who speaks where it does not say."""
_WITHIN = ("content", "text", "thinking", "arguments", "input", "output", "tool_calls", "function")
_ROLES = {"function": "tool"}


class QuestionText(NamedTuple):
    """Where a text of the question stands, and whose it is."""

    holder: Any
    key: Any
    role: str

    @property
    def text(self) -> str:
        text: str = self.holder[self.key]
        return text


def question_texts(body: dict[str, Any]) -> list[QuestionText]:
    """Every text of the question. Pictures, sound and token ids hold none."""
    return [text for field, role in _FIELDS if field in body for text in _texts(body, field, role)]


def _texts(holder: Any, key: Any, role: str) -> Iterator[QuestionText]:
    value = holder[key]
    if isinstance(value, str):
        yield QuestionText(holder, key, role)
    elif isinstance(value, list):
        for number in range(len(value)):
            yield from _texts(value, number, role)
    elif isinstance(value, dict):
        named = value.get("role")
        if isinstance(named, str):
            role = _ROLES.get(named, named)
        elif value.get("type") in ("tool_result", "function_call_output"):
            role = "tool"
        for field in _WITHIN:
            if field in value:
                yield from _texts(value, field, role)
