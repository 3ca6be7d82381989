"""How much of a question is no text: pictures, sound and files, whose tokens their bytes do not tell."""

from __future__ import annotations

from typing import Any

from serving.gateway.records import Media
from serving.guard.question.limits import MEDIA_FIELDS

_MEDIA_KEYS = MEDIA_FIELDS | {"file", "file_id", "image", "audio", "video"}
_TEXT_TYPES = frozenset(
    {
        *("text", "input_text", "output_text", "summary_text", "reasoning_text", "refusal", "thinking"),
        *("redacted_thinking", "message", "reasoning", "function", "function_call", "function_call_output"),
        *("tool_use", "tool_result", "tool_call", "custom", "custom_tool_call", "custom_tool_call_output"),
    }
)
"""Types of parts and items that hold text. Any other may be anything, so it is taken for media."""
_ASKED = ("messages", "input", "system")
# What a model once called a tool with, or a tool's schema: JSON in which `type` and `image` are anybody's words.
_NOT_PARTS = frozenset({"input", "arguments", "function", "tool_calls", "parameters", "input_schema"})


def media_of(body: dict[str, Any]) -> Media:
    """Look through a question's messages. Bounded by the body's size; does not recurse."""
    parts = chars = 0
    level = [body[field] for field in _ASKED if field in body]
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, list):
                below += [item for item in value if isinstance(item, (dict, list))]
            elif isinstance(value, dict):
                if _is_media(value):
                    parts += 1
                    chars += _length(value)
                else:
                    below += [
                        item for key, item in value.items() if isinstance(item, (dict, list)) and key not in _NOT_PARTS
                    ]
        level = below
    return Media(parts, chars)


def _is_media(part: dict[str, Any]) -> bool:
    kind = part.get("type")
    if kind is not None and (not isinstance(kind, str) or kind not in _TEXT_TYPES):
        return True
    return any(part[key] is not None for key in part.keys() & _MEDIA_KEYS)


def _length(value: Any) -> int:
    chars = 0
    level = [value]
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                chars += len(value)
            elif isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
        level = below
    return chars
