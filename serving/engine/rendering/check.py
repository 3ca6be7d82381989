"""Whether a rendered prompt has control tokens that its chat template alone would not have written.

A client's words come with none: the guard breaks them. But a template may take something out of the words
(`content.replace("/think", "")`), so that the two halves of `<|im_/thinkstart|>` meet, or write brackets around a name
that the client chose. Only the finished prompt shows that, beside one rendered from stand-ins: whatever control token
the first has more of was made from the client's words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Set
from functools import lru_cache
from typing import Any

from serving.engine.rendering.standins import StandIns
from serving.guard.question.control import trie_pattern
from serving.guard.text.folding import fold_wide

Render = Callable[[list[dict[str, Any]], dict[str, Any]], str]
"""Renders a conversation with the template's variables, as vLLM did for the prompt."""

# What vLLM itself reads of the variables. All others are a client's, or an operator's, and plain values.
_NOT_WRITTEN = frozenset({"chat_template"})
_TEMPLATES = 8


class PromptCheck:
    """Knows the control tokens of one tokenizer."""

    def __init__(self, tokens: Iterable[str], special: Iterable[str]) -> None:
        """`special`: those that are marked so; models write the others into their texts, such as `</think>`."""
        self._tokens = frozenset(token for token in tokens if len(token.strip()) > 1)
        self._special = self._tokens.intersection(special)
        self._as_written = _pattern(self._tokens)
        self._folded = _pattern({fold_wide(token) for token in self._tokens})
        # Requests bring no templates of their own: there are as many as an operator serves.
        self._stand_ins = lru_cache(_TEMPLATES)(self._make_stand_ins)

    def is_made(
        self,
        prompt: str,
        template: str,
        conversation: list[dict[str, Any]],
        variables: dict[str, Any],
        render: Render,
        written: list[str] | None = None,
    ) -> bool:
        """Whether the template made a control token of a client's words.

        Args:
            prompt: what came of `conversation` and `variables`.
            written: what the client's messages say where vLLM added to them, as it does with places for pictures.

        Raises:
            Whatever `render` does with the stand-ins.
        """
        found = self._count(prompt)
        if not found:
            return False
        stand_ins = self._stand_ins(template)
        given = None if written is None else self._given(conversation, written)
        copy = [stand_ins.value(message, given) for message in conversation]
        if variables.get("continue_final_message") and conversation:
            # The beginning of an answer that a model wrote: its own tokens are in it rightly.
            copy[-1] = stand_ins.value(conversation[-1], self._as_written)
        others = {name: value if name in _NOT_WRITTEN else stand_ins.value(value) for name, value in variables.items()}
        return bool(found - self._count(render(copy, others)))

    def _make_stand_ins(self, template: str) -> StandIns:
        return StandIns(template, self._special, self._tokens - self._special)

    def _count(self, text: str) -> Counter[str]:
        return Counter(self._folded.findall(fold_wide(text))) if self._folded else Counter()

    def _given(self, conversation: list[dict[str, Any]], written: list[str]) -> re.Pattern[str] | None:
        """The control tokens that vLLM put into the texts, and no client."""
        if self._as_written is None:
            return None
        texts = [text for message in conversation for text in texts_of(message.get("content"))]
        found, own = (set(self._as_written.findall("\n".join(parts))) for parts in (texts, written))
        return _pattern(found - own)


def texts_of(content: Any) -> list[str]:
    """The texts of a message's content, a string or a list of parts."""
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    return [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]


def _pattern(tokens: Set[str]) -> re.Pattern[str] | None:
    return re.compile(f"({trie_pattern(tokens)})") if tokens else None
