"""Which answers a client shows as Markdown: those of chats. The others are read by programs."""

from __future__ import annotations

from typing import Any

_STRUCTURED = ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar")
_FORMATS = ("response_format", "output_format")
_FORMATS_WITHIN = ("text", "output_config")
"""Fields whose `format` says what the answer shall be (`/v1/responses`, `/v1/messages`)."""
_FORMS = frozenset({*_STRUCTURED, *_FORMATS, *_FORMATS_WITHIN})
_CHATS = frozenset({"chat", "responses", "messages"})


def is_shown(body: dict[str, Any], endpoint: str) -> bool:
    """Whether the answer to a question is prose of a chat; completions continue any text, code most of all."""
    return endpoint in _CHATS and not is_structured(body)


def is_structured(body: dict[str, Any]) -> bool:
    """Whether the answer will have the form that a question asks for: JSON, or what a grammar allows."""
    if _FORMS.isdisjoint(body):
        return False
    for field in _STRUCTURED:
        if body.get(field):
            return True
    for field in _FORMATS:
        if _is_format(body.get(field)):
            return True
    return any(
        isinstance(within := body.get(field), dict) and _is_format(within.get("format")) for field in _FORMATS_WITHIN
    )


def _is_format(wanted: Any) -> bool:
    return isinstance(wanted, dict) and wanted.get("type", "text") != "text"
