"""The system prompt of a question: where its texts stand, and its words, which an answer must not repeat."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from serving.guard.text.folding import fold

MAX_WORD = 64
WORD = re.compile(rf"\w{{1,{MAX_WORD}}}")
_MAX_PLACES = 256
"""Places of one word that are followed: in a prompt of one word repeated, all of them would take quadratic time."""


class SystemPrompt:
    """The words of one request's system prompt, and its canary."""

    __slots__ = ("_places", "canary")

    def __init__(self, texts: Sequence[str], canary: str) -> None:
        self.canary = canary
        self._places: dict[str, list[int]] = {}
        number = 0
        for text in texts:
            for word in WORD.finditer(text):
                places = self._places.setdefault(plain_word(word.group()), [])
                if len(places) < _MAX_PLACES:
                    places.append(number)
                number += 1
            number += 1  # words of two texts do not stand in a row

    def handed_over(self) -> tuple[str, dict[str, list[int]]]:
        """Canary and words, for the process of the answer."""
        return self.canary, self._places

    @classmethod
    def taken_over(cls, canary: str, places: dict[str, list[int]]) -> SystemPrompt:
        prompt = cls((), canary)
        prompt._places = places
        return prompt

    def __repr__(self) -> str:
        return f"SystemPrompt({len(self._places)} words)"

    def follow(self, runs: dict[int, int], word: str) -> dict[int, int]:
        """Runs of words that end with `word`: the place of it to how long; `runs` are those that end before it."""
        return {place: runs.get(place - 1, 0) + 1 for place in self._places.get(word, ())}


def system_texts(body: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Where the texts of the system prompt stand, as (container, key)."""
    for field in ("system", "instructions"):
        yield from _texts_at(body, field)
    for field in ("messages", "input"):
        messages = body.get(field)
        for message in messages if isinstance(messages, list) else ():
            if isinstance(message, dict) and message.get("role") in ("system", "developer"):
                yield from _texts_at(message, "content")


def _texts_at(holder: dict[str, Any], key: str) -> Iterator[tuple[Any, Any]]:
    value = holder.get(key)
    if isinstance(value, str) and value:
        yield holder, key
    for part in value if isinstance(value, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part, "text"


def plain_word(word: str) -> str:
    """A word as it is compared: in small letters, and those that read as ASCII made so."""
    return fold(word).casefold()
