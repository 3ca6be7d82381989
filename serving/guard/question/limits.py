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

SMALL_BYTES = 64 * 1024
SMALL_VALUES = 1000
"""What has more characters of text, or more fields and items, is not cleaned on the event loop."""


class Limits:
    """Counts what one request holds."""

    __slots__ = ("_settings", "chars", "values")

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self.values = 0
        self.chars = 0

    def take(self, field: str, top: Any) -> None:
        """Count what stands in a field of the body.

        Raises:
            GuardRefusal: it is nested too deeply, or the request has too many values or too much text.
        """
        settings = self._settings
        level: list[Any] = [top]
        for depth in range(1, settings.max_depth + 2):
            self.values += len(level)
            self.chars += sum(len(value) for value in level if isinstance(value, str))
            if depth > settings.max_depth:
                raise _refusal("request_too_deep", f"nested deeper than {settings.max_depth} levels", field)
            self._check_values(field)
            if self.chars > settings.max_text_chars:
                raise _refusal(
                    "request_text_too_long", f"more than {settings.max_text_chars} characters of text", field
                )
            level = _children(level)
            if not level:
                break

    def take_json(self, data: Any) -> None:
        """Count what was parsed from a string, whose characters are counted.

        Raises:
            GuardRefusal: as `take`.
        """
        chars, self.chars = self.chars, 0
        try:
            self.take("arguments", data)
        finally:
            self.chars = chars

    def _check_values(self, field: str) -> None:
        if self.values > self._settings.max_values:
            raise _refusal("request_too_complex", f"more than {self._settings.max_values} fields and items", field)


def check_limits(body: dict[str, Any], settings: GuardSettings) -> Limits:
    """Refuse a body that is nested too deeply, or has too many values or too much text.

    Raises:
        GuardRefusal: naming the top-level field.
    """
    limits = Limits(settings)
    for field, top in body.items():
        limits.take(field, top)
    return limits


def check_raw(raw: bytes, settings: GuardSettings) -> None:
    """Refuse JSON that has too many values before it is decoded, which holds the event loop for as long as they last.

    Raises:
        GuardRefusal: as `check_limits` would.
    """
    if num_separators(raw) <= settings.max_values:
        return
    # Texts hold separators too: what counts is what stands between the strings.
    plain = raw.replace(rb"\\", b"").replace(rb"\"", b"")
    if plain.count(b'"') // 2 > settings.max_values or (
        num_separators(b"".join(plain.split(b'"')[::2])) > settings.max_values
    ):
        raise _refusal("request_too_complex", f"more than {settings.max_values} fields and items", "")


def is_large(raw: bytes, body: dict[str, Any]) -> bool:
    """Whether cleaning a body may take long; `raw` is the JSON that it was decoded from, or one that is longer."""
    if len(raw) <= SMALL_BYTES and num_separators(raw) <= SMALL_VALUES:
        return False
    values = chars = 0
    level: list[Any] = [body]
    while level:
        values += len(level)
        if values > SMALL_VALUES:
            return True
        texts = [value for value in level if isinstance(value, str)]
        chars += sum(map(len, texts))
        # Strings may be JSON that is parsed.
        values += sum(map(_num_separators, texts))
        if values > SMALL_VALUES or chars > SMALL_BYTES:
            return True
        level = _children(level)
    return False


_JSON_BEGINS = frozenset("[{ \t\r\n\ufeff")


def _num_separators(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{") if text[:1] in _JSON_BEGINS else 0


def num_separators(json: bytes) -> int:
    """At most so many items and fields are in JSON, besides the outermost value."""
    return json.count(b",") + json.count(b"[") + json.count(b"{")


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
