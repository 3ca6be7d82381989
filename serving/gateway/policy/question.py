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


class Place(NamedTuple):
    """Where a text of the question stands, and whose it is."""

    holder: Any
    key: Any
    role: str

    @property
    def text(self) -> str:
        text: str = self.holder[self.key]
        return text


def question_places(body: dict[str, Any]) -> list[Place]:
    """Every text of the question. Pictures, sound and token ids hold none."""
    return [place for field, role in _FIELDS if field in body for place in _places(body, field, role)]


def _places(holder: Any, key: Any, role: str) -> Iterator[Place]:
    value = holder[key]
    if isinstance(value, str):
        yield Place(holder, key, role)
    elif isinstance(value, list):
        for number in range(len(value)):
            yield from _places(value, number, role)
    elif isinstance(value, dict):
        named = value.get("role")
        if isinstance(named, str):
            role = _ROLES.get(named, named)
        elif value.get("type") in ("tool_result", "function_call_output"):
            role = "tool"
        for field in _WITHIN:
            if field in value:
                yield from _places(value, field, role)
