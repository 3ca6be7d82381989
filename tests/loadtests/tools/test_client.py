"""The client must count right before anything it measures means something."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from loadtests.tools.client import LoadClient, Measurement, chat_body

CHAT = "/v1/chat/completions"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


@contextlib.asynccontextmanager
async def scripted(answer: Answer) -> AsyncIterator[str]:
    """A server that reads whole requests and answers each with `answer`."""

    serving: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                await answer(writer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*filter(None, serving)), 5)


async def run(url: str, connections: int = 1, num_chunks: int | None = None, **how) -> Measurement:
    async with LoadClient(url, connections) as client:
        return await client.run(CHAT, [chat_body(num_chunks)], **how)


async def test_plain_requests_are_counted(standin_url: str) -> None:
    seen = await run(standin_url, connections=3, total=50)

    assert seen.num_completed == 50
    assert seen.num_bytes == 50 * 376
    assert seen.num_tokens == 50 * 24
    assert seen.num_events == 0
    assert not seen.errors
    assert seen.wall_s >= max(seen.latencies) > 0


async def test_streams_events_and_tokens_are_counted(standin_url: str) -> None:
    seen = await run(standin_url, connections=4, num_chunks=10, total=20)

    # A role event, ten words, usage and [DONE].
    assert seen.num_events == 20 * 13
    assert seen.num_tokens == 20 * 10
    assert len(seen.ttfts) == 20
    assert not seen.errors


async def test_seconds_end_a_closed_loop(standin_url: str) -> None:
    seen = await run(standin_url, connections=2, seconds=0.2)

    assert 0.2 <= seen.wall_s < 5
    assert seen.num_completed > 2


async def test_ttft_is_the_first_text_and_gaps_follow_it() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + http_chunk(event("")))
        await asyncio.sleep(0.2)
        writer.write(http_chunk(event("one")))
        await asyncio.sleep(0.1)
        writer.write(http_chunk(event("two") + event("three")) + http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with scripted(answer) as url:
        seen = await run(url, num_chunks=3, total=1)

    assert seen.first_events[0] < 0.2 <= seen.ttfts[0] < seen.latencies[0]
    assert seen.num_events == 5
    # one -> two after the pause; three and [DONE] came along with two.
    assert seen.gaps[0] >= 0.09
    assert seen.gaps[1:] == [0.0, 0.0]


async def test_an_event_cut_inside_its_end_is_one_event() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        whole = event("one") + b"data: [DONE]\n\n"
        cut = whole.index(b"\n\n") + 1
        writer.write(STREAM_HEAD + http_chunk(whole[:cut]))
        await writer.drain()
        writer.write(http_chunk(whole[cut:]) + b"0\r\n\r\n")

    async with scripted(answer) as url:
        seen = await run(url, num_chunks=1, total=3)

    assert seen.num_events == 3 * 2


@pytest.mark.parametrize(
    ("response", "error"),
    [
        pytest.param(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", "status 503", id="refused"),
        pytest.param(STREAM_HEAD + http_chunk(event("one")) + b"0\r\n\r\n", "no last event", id="stream cut short"),
        pytest.param(b"SMTP ready\r\n\r\n", "not HTTP", id="another protocol"),
    ],
)
async def test_bad_answers_are_errors_and_not_latencies(response: bytes, error: str) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(response)

    async with scripted(answer) as url:
        seen = await run(url, total=4)

    assert seen.errors == {error: 4}
    assert seen.latencies == []


async def test_a_lost_connection_is_an_error_and_the_next_request_reconnects() -> None:
    num_asked = 0

    async def answer(writer: asyncio.StreamWriter) -> None:
        nonlocal num_asked
        num_asked += 1
        if num_asked == 2:
            writer.close()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async with scripted(answer) as url:
        seen = await run(url, total=3)

    assert seen.errors == {"connection lost": 1}
    assert seen.num_completed == 2


async def test_a_server_that_closes_after_each_answer_is_no_error() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    async with scripted(answer) as url:
        seen = await run(url, total=5)

    assert (seen.num_completed, sum(seen.errors.values())) == (5, 0)


async def test_silence_is_a_timeout() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0)

    async with scripted(answer) as url:
        seen = await run(url, connections=2, seconds=0.05, timeout_s=0.1)

    assert seen.errors == {"timeout": 2}


async def test_paced_requests_keep_their_rate(standin_url: str) -> None:
    seen = await run(standin_url, connections=4, seconds=0.5, rate=100)

    assert 40 <= seen.num_completed + sum(seen.errors.values()) <= 51


async def test_paced_requests_charge_a_slow_server_for_the_wait() -> None:
    """One connection, 20 ms an answer, a request planned every 10 ms: the tenth has waited about 100 ms."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async with scripted(answer) as url:
        seen = await run(url, seconds=1.0, total=10, rate=100)

    assert seen.latencies == sorted(seen.latencies)
    assert seen.latencies[-1] >= 0.09


async def test_a_run_needs_an_end(standin_url: str) -> None:
    with pytest.raises(ValueError, match="needs an end"):
        await run(standin_url)


def test_runs_add_up() -> None:
    first, second = Measurement(1.0, [0.1]), Measurement(3.0, [0.2, 0.3])
    second.errors["timeout"] += 1

    first.add(second)

    assert first.summary()["requests_per_s"] == 3 / 4
    assert first.summary()["errors"] == 1
