"""Bounds of a request's body, checked without recursion before anything walks it."""

from __future__ import annotations

from typing import Any

from serving.guard.outcome import GuardRefusal
from serving.guard.settings import GuardSettings

MEDIA_FIELDS = frozenset(
    {
        *("image_url", "video_url", "audio_url", "input_audio", "image_embeds", "audio_embeds", "video_embeds"),
        *("file_data", "file_url"),
    }
)
"""Parts' fields that hold pictures and sound (or where they are), not text: not looked into, not counted."""


def check_limits(body: dict[str, Any], settings: GuardSettings) -> None:
    """Refuse a body that is nested too deeply, or has too many values or too much text.

    Raises:
        GuardRefusal: naming the top-level field.
    """
    values = chars = 0
    for field, top in body.items():
        level: list[Any] = [top]
        for depth in range(1, settings.max_depth + 2):
            values += len(level)
            chars += sum(len(value) for value in level if isinstance(value, str))
            if depth > settings.max_depth:
                raise _refusal("request_too_deep", f"nested deeper than {settings.max_depth} levels", field)
            if values > settings.max_values:
                raise _refusal("request_too_complex", f"more than {settings.max_values} fields and items", field)
            if chars > settings.max_text_chars:
                raise _refusal(
                    "request_text_too_long", f"more than {settings.max_text_chars} characters of text", field
                )
            level = _children(level)
            if not level:
                break


def _children(level: list[Any]) -> list[Any]:
    children: list[Any] = []
    for value in level:
        if isinstance(value, dict):
            children += value
            encoded = value.get("type") == "base64"  # Anthropic's clients put pictures beside their type, as `data`
            children += (
                child for key, child in value.items() if key not in MEDIA_FIELDS and not (encoded and key == "data")
            )
        elif isinstance(value, list):
            children += value
    return children


def _refusal(code: str, what: str, field: str) -> GuardRefusal:
    known = field if field.isascii() and field.isidentifier() and len(field) <= 40 else None
    return GuardRefusal(
        code=code, message=f"The request is {what}." if "nested" in what else f"The request has {what}.", param=known
    )
