from __future__ import annotations

import asyncio

import pytest

from serving.gateway.answer import room as room_module
from serving.gateway.answer.room import UNCOUNTED_BYTES, AnswerRoom
from serving.gateway.errors import AnswerTooLarge, Overloaded
from tests.serving.gateway.answer.ends import Process, Response, room_in

PIECE = b"x" * UNCOUNTED_BYTES
LARGEST = 10 * UNCOUNTED_BYTES


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
    assert await read(room_in(Process(free=0), LARGEST), response) == b"answer"


@pytest.mark.parametrize("announced", [True, False])
async def test_a_large_one_takes_its_room(announced: bool) -> None:
    process, body = Process(free=LARGEST), PIECE * 4

    answer = await read(room_in(process, LARGEST), Response([PIECE] * 4, str(len(body)).encode() if announced else b""))

    assert answer == body
    # The last piece of one whose length is unknown is not counted: it would be given back at once.
    assert LARGEST - process.free >= len(body) - UNCOUNTED_BYTES


async def test_one_that_is_announced_waits_for_room() -> None:
    process = Process(free=0)
    reading = asyncio.create_task(read(room_in(process, LARGEST), Response([PIECE] * 4, str(4 * len(PIECE)).encode())))
    await asyncio.sleep(0)
    assert not reading.done()

    process.give_back(LARGEST)

    assert await reading == PIECE * 4


async def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "_ROOM_WAIT_S", 0.01)

    with pytest.raises(Overloaded) as refused:
        await read(room_in(Process(free=0), LARGEST), Response([PIECE] * 4, str(4 * len(PIECE)).encode()))
    assert (refused.value.code, dict(refused.value.headers)) == ("buffers_full", {b"retry-after": b"2"})


async def test_one_of_unknown_length_is_refused_where_there_is_no_room() -> None:
    with pytest.raises(Overloaded):
        await read(room_in(Process(free=0), LARGEST), Response([PIECE] * 4))


@pytest.mark.parametrize("length", [str(LARGEST + 1).encode(), b"9" * 4000, b""], ids=["announced", "absurd", "unsaid"])
async def test_one_that_is_too_large_is_not_read_to_its_end(length: bytes) -> None:
    response = Response([PIECE] * 1000, length)

    with pytest.raises(AnswerTooLarge, match=str(LARGEST)):
        await read(room_in(Process(free=1 << 40), LARGEST), response)
    assert len(response._pieces) > 900


def test_a_stream_that_is_held_back_takes_room_as_it_grows() -> None:
    process = Process(free=3 * UNCOUNTED_BYTES)
    room = room_in(process, LARGEST)

    room.hold(UNCOUNTED_BYTES)
    assert process.free == 3 * UNCOUNTED_BYTES
    room.hold(2 * UNCOUNTED_BYTES)
    assert process.free == UNCOUNTED_BYTES
    with pytest.raises(Overloaded):
        room.hold(4 * UNCOUNTED_BYTES)
