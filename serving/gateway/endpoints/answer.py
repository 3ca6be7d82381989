"""Whole answers of the other endpoints, and whole texts that a stream repeats: cleaned where they stand."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import msgspec

from serving.gateway.context import RequestContext
from serving.gateway.endpoints.endpoint import Json, TextField
from serving.gateway.errors import EngineFailed
from serving.gateway.records import AnswerRecord
from serving.gateway.streams.answer import CleanAnswer
from serving.gateway.streams.chunks import UNREADABLE, decode_any, decode_loose, encode
from serving.gateway.streams.details import clean_details
from serving.gateway.streams.recording import record_text
from serving.gateway.streams.texts import (
    Text,
    clean_keys,
    clean_where_it_stands,
    drop_opaque,
    texts_alone,
    texts_within,
)
from serving.guard import Answers, GuardReport

_NOT_OPAQUE = frozenset({"usage"})
_CONSTANTS = frozenset({"end_turn", "max_tokens", "stop_sequence", "tool_use", "max_output_tokens"})
"""Whole texts of nearly all answers that no guard changes; by their underscore, they are no plain words to it."""


class _UsageOnly(msgspec.Struct):
    usage: Any = None


_decode_usage = msgspec.json.Decoder(_UsageOnly).decode


def clean_whole(context: RequestContext, guard: Answers, body: bytes) -> CleanAnswer:
    """Clean every text of an answer in one piece, and note its usage in the context.

    Raises:
        EngineFailed: the engine's body is not an answer.
    """
    endpoint, is_standard = context.endpoint, True
    try:
        if endpoint.cleans_answer:
            answer, is_standard = decode_loose(body)
        else:
            # An answer without text is passed on unread: a batch of vectors is long.
            answer = {"usage": _decode_usage(body).usage}
        if not isinstance(answer, dict):
            raise EngineFailed("The engine sent an answer that is no JSON object.")
        note_usage(context, answer)
        context.answer.finish_reason = endpoint.finish_reason(answer)
        text_fields = endpoint.text_fields(answer) if endpoint.cleans_answer else []
        if endpoint.generates:
            for text_field in text_fields:
                record_text(
                    context,
                    (text_field.key, 0),
                    encode(text_field.holder[text_field.key]).decode() if text_field.parsed else _at(text_field),
                )
        cleaned = CleanTexts(guard, answer, text_fields) if endpoint.cleans_answer else None
    except UNREADABLE:
        raise EngineFailed("The engine sent an answer that is not valid JSON.") from None
    for part, text_field in enumerate(text_fields):
        _tell(context.answer, text_field, (part,))
    if cleaned is None:
        return CleanAnswer(body, [])
    return CleanAnswer(encode(answer) if cleaned.changed or not is_standard else body, cleaned.reports)


def _tell(answer: AnswerRecord, text_field: TextField, part: Hashable) -> None:
    """A text of the answer has been cleaned."""
    if text_field.is_answer:
        answer.tell(_at(text_field), 0, "text", part)
    elif answer.heard is not None:
        value = text_field.holder[text_field.key]
        kind = text_field.key if text_field.key != "text" else "content"
        answer.tell(encode(value).decode() if text_field.parsed else value, 0, kind, part, is_signed=False)


def note_usage(context: RequestContext, answer: Json) -> None:
    """Keep what the engine counted; in a stream, what it has said so far."""
    usage = context.endpoint.usage(answer)
    if usage is not None:
        context.answer.note_usage(usage.prompt, usage.completion)


class CleanTexts:
    """Cleans decoded JSON where it stands: the texts at `places`, and every other string but identifiers.

    Attributes:
        reports: of those texts in which something was found.
        changed: whether the JSON is another one now.
    """

    def __init__(self, guard: Answers, tree: Json, text_fields: list[TextField]) -> None:
        self._guard = guard
        self._written: set[int] = set()
        self.reports: list[GuardReport] = []
        self.changed = False
        texts = None if any(text_field.parsed for text_field in text_fields) else texts_alone(tree)
        if texts is not None:
            self._clean(texts)
            return
        details = [(holder, holder.pop("logprobs")) for holder in list(_with_details(tree))]
        self.changed |= drop_opaque(tree, _NOT_OPAQUE)
        arguments = [(text_field, self._cleaned(text_field)) for text_field in text_fields if text_field.parsed]
        for text_field, _ in arguments:
            text_field.holder[text_field.key] = None
        self._clean(list(texts_within(tree)))
        self.changed |= clean_keys(guard, tree)
        for text_field, value in arguments:
            text_field.holder[text_field.key] = value
        for holder, value in details:
            shown = clean_details(guard, value) or [] if value and id(holder) not in self._written else []
            self.changed |= shown != value
            holder["logprobs"] = shown

    def _clean(self, texts: list[Text]) -> None:
        for text in texts:
            if text.value in _CONSTANTS:
                continue
            if clean_where_it_stands(self._guard, text.holder, text.key, self.reports, text.kind):
                self._written.add(id(text.holder))
                self.changed = True

    def _cleaned(self, text_field: TextField) -> Any:
        """The arguments of a call, which are JSON and decoded already."""
        text = encode(text_field.holder[text_field.key]).decode()
        cleaned, report = self._guard.clean_text(text, json=True)
        if report:
            self.reports.append(report)
        if cleaned == text:
            return text_field.holder[text_field.key]
        self.changed = True
        return _parsed(cleaned)


def _with_details(tree: Any) -> Iterator[Json]:
    if isinstance(tree, dict):
        if isinstance(tree.get("logprobs"), list):
            yield tree
        for value in tree.values():
            yield from _with_details(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _with_details(value)


def _at(text_field: TextField) -> str:
    text: str = text_field.holder[text_field.key]
    return text


def _parsed(text: str) -> Any:
    """Cleaned JSON, decoded; nothing of it should it have lost its form."""
    try:
        return decode_any(text)
    except msgspec.DecodeError:
        return {}
