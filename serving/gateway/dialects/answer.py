"""Whole answers of the other endpoints, and whole texts that a stream repeats: cleaned where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from serving.gateway.context import RequestContext
from serving.gateway.dialects.dialect import Dialect, Json, Place
from serving.gateway.errors import EngineFailed
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


def clean_whole(context: RequestContext, dialect: Dialect, guard: Answers, body: bytes) -> CleanAnswer:
    """Clean every text of an answer in one piece, and note its usage in the context.

    Raises:
        EngineFailed: the engine's body is not an answer.
    """
    is_standard = True
    try:
        if dialect.cleans_answer:
            answer, is_standard = decode_loose(body)
        else:
            # An answer without text is passed on unread: a batch of vectors is long.
            answer = {"usage": _decode_usage(body).usage}
        if not isinstance(answer, dict):
            raise EngineFailed("The engine sent an answer that is no JSON object.")
        note_usage(context, dialect, answer)
        context.finish_reason = dialect.finish_reason(answer)
        places = dialect.places(answer) if dialect.cleans_answer else []
        if dialect.generates:
            for place in places:
                record_text(
                    context, (place.key, 0), encode(place.holder[place.key]).decode() if place.parsed else _at(place)
                )
        cleaned = CleanTexts(guard, answer, places) if dialect.cleans_answer else None
    except UNREADABLE:
        raise EngineFailed("The engine sent an answer that is not valid JSON.") from None
    if context.digests is not None:
        for place in places:
            if place.is_answer:
                context.digests.text(0).add(_at(place))
    if cleaned is None:
        return CleanAnswer(body, [])
    return CleanAnswer(encode(answer) if cleaned.changed or not is_standard else body, cleaned.reports)


def note_usage(context: RequestContext, dialect: Dialect, answer: Json) -> None:
    """Keep what the engine counted; in a stream, what it has said so far."""
    usage = dialect.usage(answer)
    if usage is not None:
        context.note_usage(usage.prompt, usage.completion)


class CleanTexts:
    """Cleans decoded JSON where it stands: the texts at `places`, and every other string but identifiers.

    Attributes:
        reports: of those texts in which something was found.
        changed: whether the JSON is another one now.
    """

    def __init__(self, guard: Answers, tree: Json, places: list[Place]) -> None:
        self._guard = guard
        self._written: set[int] = set()
        self.reports: list[GuardReport] = []
        self.changed = False
        texts = None if any(place.parsed for place in places) else texts_alone(tree)
        if texts is not None:
            self._clean(texts)
            return
        details = [(holder, holder.pop("logprobs")) for holder in list(_with_details(tree))]
        self.changed |= drop_opaque(tree, _NOT_OPAQUE)
        arguments = [(place, self._cleaned(place)) for place in places if place.parsed]
        for place, _ in arguments:
            place.holder[place.key] = None
        self._clean(list(texts_within(tree)))
        self.changed |= clean_keys(guard, tree)
        for place, value in arguments:
            place.holder[place.key] = value
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

    def _cleaned(self, place: Place) -> Any:
        """The arguments of a call, which are JSON and decoded already."""
        text = encode(place.holder[place.key]).decode()
        cleaned, report = self._guard.clean_text(text, json=True)
        if report:
            self.reports.append(report)
        if cleaned == text:
            return place.holder[place.key]
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


def _at(place: Place) -> str:
    text: str = place.holder[place.key]
    return text


def _parsed(text: str) -> Any:
    """Cleaned JSON, decoded; nothing of it should it have lost its form."""
    try:
        return decode_any(text)
    except msgspec.DecodeError:
        return {}
