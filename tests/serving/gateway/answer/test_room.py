from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from serving.gateway.answer import room as room_module
from serving.gateway.answer.room import UNCOUNTED_BYTES, AnswerRoom
from serving.gateway.errors import AnswerTooLarge, Overloaded

PIECE = b"x" * UNCOUNTED_BYTES
LARGEST = 10 * UNCOUNTED_BYTES


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


def room_in(process: Process, most: int = LARGEST) -> AnswerRoom:
    return AnswerRoom(process, "acme", most)  # type: ignore[arg-type]


async def read(room: AnswerRoom, response: Response) -> bytes:
    return await room.read(response)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "response",
    [
        Response([b"answer"], has_come=True),
        Response([b"ans", b"wer"]),
        Response([b"ans", b"wer"], b"6"),
        Response([b"answer"], b"no number"),
    ],
    ids=["whole", "pieces", "announced", "no length"],
)
async def test_a_small_answer_is_read_without_room(response: Response) -> None:
    assert await read(room_in(Process(free=0)), response) == b"answer"


@pytest.mark.parametrize("announced", [True, False])
async def test_a_large_one_takes_its_room(announced: bool) -> None:
    process, body = Process(free=LARGEST), PIECE * 4

    answer = await read(room_in(process), Response([PIECE] * 4, str(len(body)).encode() if announced else b""))

    assert answer == body
    # The last piece of one whose length is unknown is not counted: it would be given back at once.
    assert LARGEST - process.free >= len(body) - UNCOUNTED_BYTES


async def test_one_that_is_announced_waits_for_room() -> None:
    process = Process(free=0)
    reading = asyncio.create_task(read(room_in(process), Response([PIECE] * 4, str(4 * len(PIECE)).encode())))
    await asyncio.sleep(0)
    assert not reading.done()

    process.give_back(LARGEST)

    assert await reading == PIECE * 4


async def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "_ROOM_WAIT_S", 0.01)

    with pytest.raises(Overloaded) as refused:
        await read(room_in(Process(free=0)), Response([PIECE] * 4, str(4 * len(PIECE)).encode()))
    assert (refused.value.code, dict(refused.value.headers)) == ("buffers_full", {b"retry-after": b"2"})


async def test_one_of_unknown_length_is_refused_where_there_is_no_room() -> None:
    with pytest.raises(Overloaded):
        await read(room_in(Process(free=0)), Response([PIECE] * 4))


@pytest.mark.parametrize("length", [str(LARGEST + 1).encode(), b"9" * 4000, b""], ids=["announced", "absurd", "unsaid"])
async def test_one_that_is_too_large_is_not_read_to_its_end(length: bytes) -> None:
    response = Response([PIECE] * 1000, length)

    with pytest.raises(AnswerTooLarge, match=str(LARGEST)):
        await read(room_in(Process(free=1 << 40)), response)
    assert len(response._pieces) > 900


def test_a_stream_that_is_held_back_takes_room_as_it_grows() -> None:
    process = Process(free=3 * UNCOUNTED_BYTES)
    room = room_in(process)

    room.hold(UNCOUNTED_BYTES)
    assert process.free == 3 * UNCOUNTED_BYTES
    room.hold(2 * UNCOUNTED_BYTES)
    assert process.free == UNCOUNTED_BYTES
    with pytest.raises(Overloaded):
        room.hold(4 * UNCOUNTED_BYTES)
