"""Chats as JSON lines: `{"messages": [{"role": "user", "content": "…"}, …]}`, with `tools` where used.

Other keys of a line are ignored, since data sets carry ids and sources of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from training.errors import DataError


class Message(BaseModel):
    """One turn of a chat, as OpenAI's API writes it."""

    model_config = ConfigDict(extra="allow")  # tool_call_id, name: templates may use them

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _check_says_something(self) -> Message:
        if self.content is None and not self.tool_calls:
            raise ValueError("a message needs content or tool_calls")
        return self


class Chat(BaseModel):
    """One conversation to learn from, or to be measured on."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    source: str = ""
    """`file:line`, for error messages."""

    @model_validator(mode="after")
    def _check_order(self) -> Chat:
        roles = [message.role for message in self.messages]
        if "assistant" not in roles:
            raise ValueError("no message has the role assistant, so there is nothing to learn")
        if "user" not in roles[: roles.index("assistant")]:
            raise ValueError("the assistant speaks before any user does")
        if "system" in roles[1:]:
            raise ValueError("only the first message may have the role system")
        return self

    def template_messages(self) -> list[dict[str, Any]]:
        """The messages as a chat template takes them."""
        return [message.model_dump(exclude_none=True) for message in self.messages]


@dataclass(frozen=True)
class ChatFile:
    """A file that was read, and the digest of exactly what was read."""

    path: Path
    sha256: str
    chats: Sequence[Chat]


def read_chats(path: Path) -> ChatFile:
    """Read every line; raises DataError at the first that is no chat. Blank lines are skipped."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    chats = [
        _read_line(line, f"{path}:{number}")
        for number, line in enumerate(content.split(b"\n"), start=1)
        if line.strip()
    ]
    if not chats:
        raise DataError(f'{path}: holds no chats: write one {{"messages": […]}} a line')
    return ChatFile(path, hashlib.sha256(content).hexdigest(), chats)


def _read_line(line: bytes, source: str) -> Chat:
    try:
        chat = Chat.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        why = first["msg"].removeprefix("Value error, ")
        raise DataError(f"{source}: {where + ': ' if where else ''}{why}") from None
    return chat.model_copy(update={"source": source})
