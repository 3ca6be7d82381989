from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from serving.http.client import (
    HIGH_WATER_BYTES,
    Timeouts,
    UpstreamError,
    UpstreamPool,
    UpstreamResponse,
    UpstreamTimeout,
)

QUICK = Timeouts(connect=0.5, first_byte=0.3, idle=0.3)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[UpstreamPool]:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(one, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    pool = UpstreamPool(f"http://127.0.0.1:{port}/base", QUICK)
    try:
        yield pool
    finally:
        pool.close()
        listening.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def test_sends_the_request_and_reads_the_answer() -> None:
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(b"HTTP/1.1 201 Made\r\nX-One: 1\r\ncontent-length: 5\r\n\r\nhello")

    async with server(serve) as pool:
        response = await pool.request(b"POST", b"/v1/x", [(b"x-two", b"2")], b"body")
        body = await response.read()
        response.close()

    assert (response.status, response.header(b"x-one"), body) == (201, b"1", b"hello")
    assert seen[0].startswith(b"POST /base/v1/x HTTP/1.1\r\n")
    assert b"x-two: 2\r\n" in seen[0]
    assert seen[0].endswith(b"\r\n\r\nbody")


async def test_reuses_a_connection_whose_answer_was_read() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")

    async with server(serve) as pool:
        for _ in range(3):
            response = await pool.request(b"GET", b"/")
            assert await response.read() == b"abc"
            response.close()

    assert connections == 1


async def test_sends_again_when_a_kept_connection_was_closed_meanwhile() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await read_request(reader)  # and close without a word

    async with server(serve) as pool:
        for _ in range(2):
            response = await pool.request(b"GET", b"/")
            assert await response.read() == b"ok"
            response.close()


async def test_closing_early_closes_the_connection() -> None:
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert await reader.read() == b""
        left.set()

    async with server(serve) as pool:
        response = await pool.request(b"GET", b"/")
        response.close()
        await asyncio.wait_for(left.wait(), 2)


async def test_a_slow_reader_pauses_the_sender() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        while True:
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    async with server(serve) as pool:
        response = await pool.request(b"GET", b"/")
        previous = -1
        while previous != sent:
            previous = sent
            await asyncio.sleep(0.05)
        stalled_at = sent
        first = await response.piece()
        response.close()

    assert len(first) < 4 * HIGH_WATER_BYTES
    assert stalled_at < 20_000_000


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        pytest.param(b"", UpstreamError, "before it answered", id="closed-at-once"),
        pytest.param(b"nonsense\r\n\r\n", UpstreamError, "malformed", id="no-http"),
    ],
)
async def test_a_broken_answer_is_a_typed_error(said: bytes, error: type[Exception], words: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(said)

    async with server(serve) as pool:
        with pytest.raises(error, match=words):
            await pool.request(b"GET", b"/")


async def test_an_answer_cut_short_is_an_error_after_what_came() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    async with server(serve) as pool:
        response = await pool.request(b"GET", b"/")
        assert await response.piece() == b"half"
        with pytest.raises(UpstreamError, match="in the middle"):
            await response.piece()
        response.close()


async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nall of it")

    async with server(serve) as pool:
        response = await pool.request(b"GET", b"/")
        assert await response.read() == b"all of it"
        response.close()


async def test_silence_is_a_timeout() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(serve) as pool:
        with pytest.raises(UpstreamTimeout):
            await pool.request(b"GET", b"/")


async def test_a_closed_port_is_an_error() -> None:
    pool = UpstreamPool("http://127.0.0.1:1", QUICK)

    with pytest.raises(UpstreamError, match="cannot connect"):
        await pool.request(b"GET", b"/")


async def test_connections_are_bounded() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(serve) as pool:
        pool._max_connections = 1
        waiting = asyncio.create_task(pool.request(b"GET", b"/"))
        await asyncio.sleep(0.05)
        with pytest.raises(UpstreamError, match="in use"):
            await pool.request(b"GET", b"/")
        with pytest.raises(UpstreamTimeout):
            await waiting


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8000", "http://"])
async def test_an_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not of the form"):
        UpstreamPool(url, QUICK)


async def in_pieces(pieces: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
    """A chunked body whose pieces come one by one; an empty one ends it."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        piece = await pieces.get()
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) + (b"" if piece else b"\r\n"))
        if not piece:
            return


@asynccontextmanager
async def a_body_in_pieces() -> AsyncIterator[tuple[UpstreamResponse, Callable[[bytes], None]]]:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await in_pieces(pieces, writer)

    async with server(serve) as pool:
        response = await pool.request(b"GET", b"/")
        yield response, pieces.put_nowait
        response.close()
        pieces.put_nowait(b"")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - set from a callback of the event loop
            await asyncio.sleep(0.001)


async def test_what_is_dealt_with_at_once_wakes_nobody() -> None:
    dealt_with: list[bytes] = []

    def at_once(data: bytes) -> bytes | None:
        dealt_with.append(data)
        return None if data != b"last" else b"what is left"

    async with a_body_in_pieces() as (response, send):
        reading = asyncio.ensure_future(response.piece(at_once))
        for number, piece in enumerate((b"one", b"two", b"three", b"last"), start=1):
            send(piece)
            await until(lambda number=number: len(dealt_with) == number)
        send(b"behind it")
        assert await reading == b"what is left"
        assert await response.piece() == b"behind it"

    assert dealt_with == [b"one", b"two", b"three", b"last"]


async def test_a_piece_that_is_declined_is_returned_with_nothing_lost_and_in_order() -> None:
    seen: list[bytes] = []

    def at_once(data: bytes) -> bytes | None:
        if len(seen) % 2:
            return data
        seen.append(data)
        return None

    async with a_body_in_pieces() as (response, send):
        sent = [b"%d," % number for number in range(40)]
        for piece in sent:
            send(piece)
        send(b"")
        while data := await response.piece(at_once):
            seen.append(data)

    assert b"".join(seen) == b"".join(sent)


async def test_what_fails_at_once_is_raised_where_it_is_waited_for() -> None:
    def at_once(data: bytes) -> bytes | None:
        raise ValueError(data.decode())

    async with a_body_in_pieces() as (response, send):
        reading = asyncio.ensure_future(response.piece(at_once))
        await asyncio.sleep(0)
        send(b"no event")
        with pytest.raises(ValueError, match="no event"):
            await reading


async def test_silence_counts_from_the_last_piece_that_was_dealt_with() -> None:
    dealt_with: list[bytes] = []

    async with a_body_in_pieces() as (response, send):
        loop = asyncio.get_running_loop()
        reading = asyncio.ensure_future(response.piece(dealt_with.append))  # type: ignore[arg-type]
        for number in range(1, 6):
            send(b"x")
            await until(lambda number=number: len(dealt_with) == number)
            await asyncio.sleep(QUICK.idle / 3)
        last_at = loop.time()
        with pytest.raises(UpstreamTimeout):
            await reading
        waited = loop.time() - last_at

    assert waited > QUICK.idle / 3


async def test_a_reader_that_was_cancelled_is_given_nothing_more() -> None:
    dealt_with: list[bytes] = []

    async with a_body_in_pieces() as (response, send):
        reading = asyncio.ensure_future(response.piece(dealt_with.append))  # type: ignore[arg-type]
        send(b"one")
        await until(lambda: len(dealt_with) == 1)
        reading.cancel()
        send(b"two")
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await response.piece() == b"two"

    assert dealt_with == [b"one"]
