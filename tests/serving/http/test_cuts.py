"""Requests cut anywhere, garbage and reset connections."""

from __future__ import annotations

import asyncio
import socket
import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from serving.http.connection import Connection
from serving.http.server import Server
from serving.http.settings import HttpSettings
from tests.serving.http.served import (
    CHUNKED,
    HOST,
    MAX_BODY,
    Application,
    Served,
    get,
    post,
    read_all,
    served_app,
)
from tests.support.running import wait_until

_STREAM = (
    post(b'{"a": 1}', "/one?x=%20", "X-Name: value", "Expect: nothing")
    + CHUNKED + b"3\r\nabc\r\n1;e=f\r\nd\r\n0\r\nT: r\r\n\r\n"
    + b"\r\n" + get("/three")
    + b"HEAD /four HTTP/1.1\r\n" + HOST + b"\r\n"
    + get("/stream")
    + b"BROKEN"
)  # fmt: skip


async def _fed(pieces: list[bytes]) -> bytes:
    """What a server answers to bytes that come in these pieces, over a real transport."""
    loop = asyncio.get_running_loop()
    server = Server(served_app(Application()), HttpSettings(), max_body_bytes=MAX_BODY)
    await server.start([])
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    _, connection = await loop.connect_accepted_socket(lambda: Connection(server), ours)
    for piece in pieces:
        connection.data_received(piece)
        await asyncio.sleep(0)
    parts = []
    async with asyncio.timeout(5):
        while data := await loop.sock_recv(theirs, 65536):
            parts.append(data)
    theirs.close()
    await server.stop()
    lines = b"".join(parts).split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(b"date: "))


async def test_a_stream_cut_in_two_at_every_byte_is_answered_as_the_whole() -> None:
    whole = await _fed([_STREAM])
    assert whole.count(b"HTTP/1.1 200 OK") == 5
    assert whole.count(b"HTTP/1.1 400") == 1
    for cut in range(1, len(_STREAM)):
        assert await _fed([_STREAM[:cut], _STREAM[cut:]]) == whole


@given(st.lists(st.integers(1, len(_STREAM) - 1), max_size=40))
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_stream_cut_anywhere_is_answered_as_the_whole(cuts: list[int]) -> None:
    places = [0, *sorted(set(cuts)), len(_STREAM)]
    pieces = [_STREAM[start:end] for start, end in pairwise(places)]
    assert asyncio.run(_fed(pieces)) == asyncio.run(_fed([_STREAM]))


@given(garbage=st.binary(max_size=300), place=st.integers(0, len(_STREAM)))
@hypothesis_settings(max_examples=100, deadline=None)
def test_garbage_never_breaks_the_server(served: Served, garbage: bytes, place: int) -> None:
    """Whatever is sent, the server answers in HTTP and is there for the next client."""
    with served.connect() as client:
        client.sendall(_STREAM[:place] + garbage)
        client.shutdown(socket.SHUT_WR)
        try:
            received = read_all(client)
        except ConnectionResetError:
            received = b""
    assert not received or received.startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 500" not in received


def test_a_reset_connection_leaves_nothing_behind(served: Served) -> None:
    client = served.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sendall(get("/hang"))
    client.close()
    wait_until(lambda: served.server.num_connections == 0, 5, "all connections are forgotten")
