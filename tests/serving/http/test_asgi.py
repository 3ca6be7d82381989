"""What the server's extension says of a client, another server's messages say too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serving.http.asgi import EXTENSION, Client, Message, Scope, extended, read_body
from serving.http.errors import ClientGone, HttpError


class OtherServer:
    """One request of a server that has no extension."""

    def __init__(self, *body: bytes) -> None:
        self.scope: Scope = {"type": "http", "headers": [(b"x-name", b"value")]}
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        for number, piece in enumerate(body, 1):
            self.incoming.put_nowait({"type": "http.request", "body": piece, "more_body": number < len(body)})
        self.receive, self.send = extended(self.scope, self.incoming.get, self._send)

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def client(self) -> Client:
        client: Client = self.scope["extensions"][EXTENSION]
        return client

    async def leave(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_client_that_leaves_before_the_end_of_its_answer_is_told_of_once() -> None:
    left: list[bool] = []
    request = OtherServer(b"ab", b"cd")
    request.client.on_disconnect(lambda: left.append(True))

    assert await read_body(request.receive, 10) == b"abcd"
    await request.send({"type": "http.response.start", "status": 200})
    await request.send({"type": "http.response.body", "body": b"x", "more_body": True})
    await request.leave()

    assert left == [True]
    assert len(request.sent) == 2
    assert request.client.headers == {b"x-name": b"value"}


async def test_nobody_is_told_after_the_end() -> None:
    left: list[bool] = []
    request = OtherServer(b"")
    await read_body(request.receive, 10)
    request.client.on_disconnect(lambda: left.append(True))

    await request.send({"type": "http.response.start", "status": 200})
    await request.send({"type": "http.response.body", "body": b"x"})
    await request.leave()

    assert left == []


async def test_a_request_can_be_cancelled() -> None:
    begun = asyncio.Event()
    requests: list[OtherServer] = []

    async def answer() -> None:
        requests.append(OtherServer(b""))
        begun.set()
        await asyncio.Event().wait()

    answering = asyncio.create_task(answer())
    await begun.wait()
    requests[0].client.cancel()

    with pytest.raises(asyncio.CancelledError):
        await answering


async def test_our_own_extension_stays() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None: ...

    mine: Any = object()
    scope: Scope = {"type": "http", "headers": [], "extensions": {EXTENSION: mine}}

    assert extended(scope, receive, send) == (receive, send)
    assert scope["extensions"][EXTENSION] is mine


@pytest.mark.parametrize(("limit", "fits"), [(4, True), (3, False)])
@pytest.mark.parametrize("pieces", [[b"abcd"], [b"ab", b"cd"]])
async def test_a_body_is_read_up_to_its_limit(pieces: list[bytes], limit: int, fits: bool) -> None:
    request = OtherServer(*pieces)

    if fits:
        assert await read_body(request.receive, limit) == b"abcd"
    else:
        with pytest.raises(HttpError) as refused:
            await read_body(request.receive, limit)
        assert refused.value.status == 413


async def test_a_client_may_leave_while_it_sends() -> None:
    request = OtherServer()
    request.incoming.put_nowait({"type": "http.request", "body": b"ab", "more_body": True})
    request.incoming.put_nowait({"type": "http.disconnect"})

    with pytest.raises(ClientGone):
        await read_body(request.receive, 10)
