"""Whole answers of the other endpoints, and whole texts that a stream repeats: cleaned where they stand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from serving.gateway.context import RequestContext
from serving.gateway.dialects.dialect import Dialect, Json, Place
from serving.gateway.errors import EngineFailed
from serving.gateway.streams.answer import CleanAnswer
from serving.gateway.streams.chunks import UNREADABLE, decode_any, encode
from serving.gateway.streams.relay import note_text
from serving.guard import Answers, GuardReport


class _UsageOnly(msgspec.Struct):
    usage: dict[str, Any] | None = None


_decode_usage = msgspec.json.Decoder(_UsageOnly).decode


def clean_whole(context: RequestContext, dialect: Dialect, guard: Answers, body: bytes) -> CleanAnswer:
    """Clean every text of an answer in one piece, and note its usage in the context.

    Raises:
        EngineFailed: the engine's body is not an answer.
    """
    try:
        # An answer without text is passed on unread: a batch of vectors is long.
        answer = decode_any(body) if dialect.cleans_answer else {"usage": _decode_usage(body).usage}
    except UNREADABLE:
        raise EngineFailed("The engine sent an answer that is not valid JSON.") from None
    if not isinstance(answer, dict):
        raise EngineFailed("The engine sent an answer that is no JSON object.")
    note_usage(context, dialect, answer)
    context.finish_reason = dialect.finish_reason(answer)
    places = dialect.places(answer)
    if dialect.generates:
        for place in places:
            note_text(context, (place.key, 0), encode(place.holder[place.key]).decode() if place.parsed else _at(place))
    reports = clean_places(guard, places)
    if context.passage is not None:
        for place in places:
            if place.is_answer:
                context.passage.text(0).add(_at(place))
    return CleanAnswer(encode(answer) if reports else body, reports)


def note_usage(context: RequestContext, dialect: Dialect, answer: Json) -> None:
    """Keep what the engine counted; in a stream, what it has said so far."""
    usage = dialect.usage(answer)
    if usage is not None:
        context.note_usage(usage.prompt, usage.completion)


def clean_places(guard: Answers, places: Iterable[Place]) -> list[GuardReport]:
    """Clean texts where they stand; the reports are of those in which something was found."""
    reports = []
    for place in places:
        before = place.holder[place.key]
        text = encode(before).decode() if place.parsed else before
        cleaned, report = guard.clean_text(text, json=place.parsed or place.key == "arguments")
        if cleaned != text:
            place.holder[place.key] = _parsed(cleaned) if place.parsed else cleaned
            if place.holder.get("logprobs"):
                place.holder["logprobs"] = []  # they spell out every token of the text
        if report:
            reports.append(report)
    return reports


def _at(place: Place) -> str:
    text: str = place.holder[place.key]
    return text


def _parsed(text: str) -> Any:
    """Cleaned JSON, decoded; nothing of it should it have lost its form."""
    try:
        return decode_any(text)
    except msgspec.DecodeError:
        return {}
