"""ASGI in plain functions: read a body, write an answer. No framework between the server and the hot path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

from serving.http.errors import ClientGone, body_too_large

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


EXTENSION = "signet"


class Client(Protocol):
    """What our server knows of a request beyond ASGI: the extension of its scope that is named `EXTENSION`."""

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Header fields by lower-case name."""

    def on_disconnect(self, callback: Callable[[], object]) -> None:
        """Have `callback` called once, should the client go before the answer is complete."""

    def hold(self, holder: str, size: int) -> bool:
        """Count `size` bytes of the holder's more until the request is answered; False where there is no room."""

    async def wait_for_room(self, holder: str, size: int) -> None:
        """The same as soon as there is room."""

    def cancel(self) -> None:
        """Cancel the task that answers this request."""

    @property
    def may_write(self) -> bool:
        """Whether `write` has nothing to wait for: the answer has begun, and the client reads it."""

    def write(self, body: bytes) -> None:
        """Send a piece of the answer, as `send` does, that is not its last."""


class PlainClient:
    """The same of another server, which says no more than ASGI. What it does not count is not limited here either."""

    may_write = False

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive, self._send = receive, send
        self._task = asyncio.current_task()
        self._on_gone: Callable[[], object] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._body_is_read = self._finished = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._body_is_read = True
            self._watch()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._finished = True
        await self._send(message)

    def on_disconnect(self, callback: Callable[[], object]) -> None:
        self._on_gone = callback
        self._watch()

    def hold(self, holder: str, size: int) -> bool:
        return True

    async def wait_for_room(self, holder: str, size: int) -> None: ...

    def write(self, body: bytes) -> None:
        raise NotImplementedError("ASGI has to wait")

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _watch(self) -> None:
        # Before the end of the body, whoever reads that would miss what is received here.
        if self._body_is_read and self._on_gone is not None and self._watching is None:
            self._watching = asyncio.create_task(self._wait_for_disconnect())

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._on_gone is not None and not self._finished:
            self._on_gone()


def extended(scope: Scope, receive: Receive, send: Send) -> tuple[Receive, Send]:
    """`receive` and `send` of a request, whose scope gets the extension where it comes from another server."""
    extensions = scope.get("extensions") or {}
    if EXTENSION in extensions:
        return receive, send
    client = PlainClient(scope, receive, send)
    scope["extensions"] = {**extensions, EXTENSION: client}
    return client.receive, client.send


_PIECE_BYTES = 256 * 1024

JSON = (b"content-type", b"application/json")
EVENT_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx would otherwise collect the stream before passing it on.
    (b"x-accel-buffering", b"no"),
)


def encode_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers)


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """The whole request body.

    Raises:
        HttpError: more than `max_bytes`; the rest is not read.
        ClientGone: the client left while sending.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body") and message["type"] == "http.request" and len(body) <= max_bytes:
        return body
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise body_too_large(max_bytes)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


async def send_whole(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    """An answer in one piece."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    # What is long is let go as the client reads it, not copied once more as a whole.
    sent = 0
    while len(body) - sent > _PIECE_BYTES:
        await send({"type": "http.response.body", "body": body[sent : sent + _PIECE_BYTES], "more_body": True})
        sent += _PIECE_BYTES
    await send({"type": "http.response.body", "body": body[sent:]})


class Lifespan:
    """One application's start and stop."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises RuntimeError when the application does not start; what it raised itself goes on as it is."""
        self._task = asyncio.ensure_future(self._run())
        await self._tell("startup")

    async def stop(self) -> None:
        """Returns when the application has stopped."""
        if self._task is not None and not self._task.done():
            await self._tell("shutdown")
            await self._task

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        await self._app(scope, self._to_app.get, self._from_app.put)

    async def _tell(self, what: str) -> None:
        assert self._task is not None
        self._to_app.put_nowait({"type": f"lifespan.{what}"})
        answer = asyncio.ensure_future(self._from_app.get())
        done, _ = await asyncio.wait({self._task, answer}, return_when=asyncio.FIRST_COMPLETED)
        if answer not in done:
            answer.cancel()
            await self._task  # raises what the application raised
        elif answer.result()["type"].endswith(".failed"):
            raise RuntimeError(answer.result().get("message") or f"the application failed at its {what}")
