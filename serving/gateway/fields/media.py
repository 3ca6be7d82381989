"""Pictures, sound and files in a question: as data, or at an address that the engine may fetch.

An engine fetches what it is given an address of, from where it stands: behind the firewall, beside metadata services.
So an address has to lead to a host that the operator allows, in whatever shape a client writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from serving.gateway.errors import BadRequest
from serving.guard.answer.hosts import Destination, Hosts

_HOLDERS = ("messages", "input", "system")
_PARTS = frozenset({"content", "output", "summary", "result"})
"""Fields of a message, an item or a part that may hold parts."""
_MEDIA = frozenset(
    {
        *("image", "images", "video", "videos", "audio", "audios", "file", "input_audio", "input_video"),
        *("input_image", "input_file", "file_data"),
    }
)
_MEDIA_TYPES = frozenset({*_MEDIA, "image_url", "video_url", "audio_url", "document", "container_upload"})
_TEXTS = frozenset({"content", "text", "role", "type", "name", "arguments", "output", "thinking", "id", "refusal"})
"""Fields that hold text where they hold a string."""
_LABELS = frozenset(
    {
        *("type", "detail", "format", "media_type", "mime_type", "filename", "file_id", "id", "uuid", "title"),
        *("context", "transcript", "expires_at", "cache_control", "citations"),
    }
)
"""What stands beside media and is no address."""
# Shorter than any picture, longer than a path that has no dot in it.
_SHORTEST_DATA = 64
_BASE64 = re.compile(r"[A-Za-z0-9+/=_\s-]+")
_MAX_DEPTH = 16


class MediaHosts:
    """The hosts that media may be fetched from: none, unless an operator names some."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._hosts = Hosts(allowed)

    def check(self, body: dict[str, Any]) -> None:
        """Refuse media that would be fetched from elsewhere.

        Raises:
            BadRequest: naming the place.
        """
        for field in _HOLDERS:
            value = body.get(field)
            if type(value) is list:
                self._parts(value, field, 0)
            elif type(value) is dict:
                self._part(value, field, 0)
        tools = body.get("tools")
        if type(tools) is list:
            self._servers(tools)

    def _servers(self, tools: list[Any]) -> None:
        """A tool may be a server that the engine is to call."""
        for number, tool in enumerate(tools):
            if type(tool) is dict and tool.get("server_url") is not None:
                self._address(tool["server_url"], f"tools[{number}].server_url", 0)

    def _parts(self, parts: list[Any], path: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise BadRequest("The request is nested too deeply.", code="request_too_deep", param=path)
        for number, part in enumerate(parts):
            if type(part) is dict:
                if len(part) == 2 and type(part.get("content")) is str and "role" in part:
                    continue  # a role and a text, as nearly all messages are
                self._part(part, f"{path}[{number}]", depth)
            elif type(part) is list:  # a batch of conversations
                self._parts(part, f"{path}[{number}]", depth + 1)

    def _part(self, part: dict[str, Any], path: str, depth: int) -> None:
        kind = part.get("type")
        is_media = type(kind) is str and kind in _MEDIA_TYPES
        for field, value in part.items():
            if type(value) is str and field in _TEXTS:
                continue
            if field in _PARTS or (field == "source" and type(value) is dict):
                self._inner(value, f"{path}.{field}", depth)
            elif field in _MEDIA or field.endswith(("_url", "_urls")) or (is_media and field not in _LABELS):
                self._address(value, f"{path}.{field}", depth)

    def _inner(self, value: Any, path: str, depth: int) -> None:
        if type(value) is list:
            self._parts(value, path, depth + 1)
        elif type(value) is dict:
            # Anthropic's `source`: data and its type, an address, or parts.
            self._parts([{**value, "type": "file"} if "url" in value else value], path, depth + 1)

    def _address(self, value: Any, path: str, depth: int) -> None:
        """Every string in `value` that is no label is data, or the address of what may be fetched."""
        if type(value) is str:
            if not self._may_be_read(value, path.endswith("data")):
                raise BadRequest(
                    f"'{path}' leads to a place from which media are not fetched here. Send it as a data: URL.",
                    code="media_not_allowed",
                    param=path,
                )
        elif depth > _MAX_DEPTH:
            raise BadRequest("The request is nested too deeply.", code="request_too_deep", param=path)
        elif type(value) is list:
            for item in value:
                self._address(item, path, depth + 1)
        elif type(value) is dict:
            for name, item in value.items():
                if name not in _LABELS:
                    self._address(item, f"{path}.{name}", depth + 1)

    def _may_be_read(self, text: str, is_data: bool) -> bool:
        if text[:5].lower() == "data:" or not text or self._hosts.leads(text) is Destination.ALLOWED:
            return True
        # Sound comes as base64 alone; some engines take pictures so too, and open a file where it is not.
        return (is_data or len(text) >= _SHORTEST_DATA) and _BASE64.fullmatch(text) is not None
