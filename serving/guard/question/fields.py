"""The shapes of messages: which of their fields hold text, JSON, parts, or names that must stay what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serving.guard.outcome import GuardRefusal
from serving.guard.question.limits import MEDIA_FIELDS
from serving.guard.question.strings import Cleaning

_IDENTIFIERS = frozenset({"name", "id", "tool_call_id", "call_id", "tool_use_id", "type"})
"""Fields of a message that must stay what they are for the engine to line calls and results up."""

_PART_TEXTS = ("text", "refusal", "thinking")

_PART_LISTS = frozenset({"content", "output", "summary"})
"""Fields of a message, an item or a part that may hold parts."""

NO_EMBEDS = "'prompt_embeds' cannot be sent: nothing can be cleaned in them. Send text."


def clean_field(cleaning: Cleaning, field: str, value: Any, path: str) -> Any:
    """One field of a message."""
    if field == "role":
        return value
    if field in _PART_LISTS and isinstance(value, list):
        return clean_parts(cleaning, value, path)
    if field == "arguments" and isinstance(value, str):
        return cleaning.json_text(value)
    if field == "tool_calls" and isinstance(value, list):
        return [_clean_call(cleaning, call) for call in value]
    if field == "function_call":
        return _clean_function(cleaning, value)
    return cleaning.value(value, masks=field not in _IDENTIFIERS)


def _clean_call(cleaning: Cleaning, call: Any) -> Any:
    if not isinstance(call, dict):
        return cleaning.value(call, masks=True)

    def clean(field: str, value: Any) -> Any:
        if field == "function":
            return _clean_function(cleaning, value)
        return cleaning.value(value, masks=field not in _IDENTIFIERS)

    return cleaning.fields(call, clean)


def _clean_function(cleaning: Cleaning, function: Any) -> Any:
    if not isinstance(function, dict):
        return cleaning.value(function, masks=True)

    def clean(field: str, value: Any) -> Any:
        if field == "arguments":
            return cleaning.json_text(value) if isinstance(value, str) else cleaning.data(value)
        return cleaning.value(value, masks=field not in _IDENTIFIERS)

    return cleaning.fields(function, clean)


def clean_parts(cleaning: Cleaning, parts: list[Any], path: str) -> list[Any]:
    """The parts of one message's content. Their texts may be joined by the template, so their seams count too."""
    cleaned: list[Any] = []
    for number, part in enumerate(parts):
        if isinstance(part, dict) and "prompt_embeds" in (part.get("type"), *part):
            raise GuardRefusal(code="field_refused", message=NO_EMBEDS, param=f"{path}[{number}]")
        cleaned.append(clean_part(cleaning, part))
    places = [
        (holder, key) for number, part in enumerate(cleaned) for holder, key in _text_places(cleaned, number, part)
    ]
    _rewrite(places, cleaning.seams)
    return cleaned


def clean_part(cleaning: Cleaning, part: Any) -> Any:
    """A part of a message's content; pictures and sound pass as they are."""
    if not isinstance(part, dict):
        return cleaning.value(part, masks=True)

    def clean(field: str, value: Any) -> Any:
        if field in MEDIA_FIELDS or (field == "source" and _is_media(value)):
            return value
        if field == "file" and isinstance(value, dict):
            return clean_part(cleaning, value)  # OpenAI's chats have `file_data` one level down
        if field in _PART_LISTS and isinstance(value, list):
            return clean_parts(cleaning, value, field)
        if field == "input" and isinstance(value, dict):
            return cleaning.data(value)
        return cleaning.value(value, masks=field not in _IDENTIFIERS)

    return cleaning.fields(part, clean)


def clean_system_seams(cleaning: Cleaning, body: dict[str, Any]) -> None:
    """Engines join the texts of a message's `system` and of its system messages without a space between."""
    given = body.get("messages")
    messages = (
        [m for m in given if isinstance(m, dict) and m.get("role") == "system"] if isinstance(given, list) else []
    )
    places = _content_places([(body, "system"), *((message, "content") for message in messages)])
    _rewrite(places, cleaning.seams)


def clean_message_seams(cleaning: Cleaning, messages: list[Any]) -> None:
    """Some templates write a message right behind another, as DeepSeek's do with system messages."""
    places = _content_places([(message, "content") for message in messages if isinstance(message, dict)])
    _rewrite(places, cleaning.inert_seams)


def _rewrite(places: list[tuple[Any, Any]], clean: Callable[[list[str]], list[str]]) -> None:
    """Put the texts at these places, (container, key), through a function of all of them."""
    for (holder, key), text in zip(places, clean([holder[key] for holder, key in places]), strict=True):
        holder[key] = text


def _content_places(contents: list[tuple[dict[str, Any], str]]) -> list[tuple[Any, Any]]:
    """Where the texts of contents stand, each a string or a list of parts."""
    places: list[tuple[Any, Any]] = []
    for holder, key in contents:
        value = holder.get(key)
        if isinstance(value, str):
            places.append((holder, key))
        elif isinstance(value, list):
            places += [place for number, part in enumerate(value) for place in _text_places(value, number, part)]
    return places


def _text_places(parts: list[Any], number: int, part: Any) -> list[tuple[Any, Any]]:
    """Where the texts of a part stand, as (container, key)."""
    if isinstance(part, str):
        return [(parts, number)]
    if isinstance(part, dict):
        return [(part, key) for key in _PART_TEXTS if isinstance(part.get(key), str)]
    return []


def _is_media(source: Any) -> bool:
    """A picture or file as Anthropic's clients send it, or where it is; a `source` may also be text."""
    return isinstance(source, dict) and source.get("type") in ("base64", "url", "file")
