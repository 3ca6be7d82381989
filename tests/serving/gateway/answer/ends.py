"""Both ends of an answer, as far as writers see them: an engine's bytes, room for them, a client, a record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, MutableMapping
from typing import Any

from serving.gateway.answer.room import AnswerRoom
from serving.ledger import LedgerUnavailable


class Sent:
    """What a client is sent; also what the server knows of it."""

    def __init__(self) -> None:
        self.may_write = True
        self.written: list[bytes] = []
        self.messages: list[MutableMapping[str, Any]] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.messages[1:]]


class Recorded:
    """A settlement that ends well, or cannot be written."""

    def __init__(self, is_down: bool = False) -> None:
        self.is_down, self.commits = is_down, 0

    async def commit(self) -> None:
        if self.is_down:
            raise LedgerUnavailable("no disk")
        self.commits += 1


class Process:
    """All the bytes that answers may take; what the room asks of its client."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.freed = asyncio.Event()

    def hold(self, holder: str, size: int) -> bool:
        assert holder == "acme"
        if size > self.free:
            return False
        self.free -= size
        return True

    async def wait_for_room(self, holder: str, size: int) -> None:
        while not self.hold(holder, size):
            self.freed.clear()
            await self.freed.wait()

    def give_back(self, size: int) -> None:
        self.free += size
        self.freed.set()


class Response:
    """An engine's answer in pieces; `length`: as its header says it."""

    def __init__(self, pieces: Iterable[bytes], length: bytes = b"", has_come: bool = False) -> None:
        self._pieces = list(pieces)
        self._length, self._has_come = length, has_come

    def whole(self, most: int) -> bytes | None:
        body = b"".join(self._pieces)
        return body if self._has_come and len(body) <= most else None

    def header(self, name: bytes) -> bytes:
        return self._length if name == b"content-length" else b""

    async def piece(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def room_in(process: Process, most: int = 1 << 30) -> AnswerRoom:
    return AnswerRoom(process, "acme", most)  # type: ignore[arg-type]
