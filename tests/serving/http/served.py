"""The gateway's HTTP server around a small application, on a thread of its own, and a client on bare sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any

import uvloop

from serving.gateway.app import EXPOSED_FIELDS, REQUESTED_FIELDS, SINGLE_FIELDS
from serving.gateway.errors import refusal_body
from serving.http.asgi import AsgiApp, Receive, Scope, Send
from serving.http.server import Server
from serving.http.settings import CorsSettings, HttpSettings, TlsSettings
from serving.http.state import ServedApp

MAX_BODY = 100_000
HOST = b"Host: here\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Application:
    """Answers by path, and notes what happened to it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.left = threading.Event()
        self.go_on = threading.Event()
        self.num_sent = 0
        self.might_write: list[bool] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        self.seen.append((scope["method"], scope["path"]))
        scope["extensions"]["signet"].on_disconnect(self.left.set)
        await getattr(self, scope["path"].split("/")[1] or "echo", self.echo)(scope, receive, send)

    async def echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self.body(receive)
        headers = [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]
        said = {"method": scope["method"], "path": scope["path"], "query": scope["query_string"].decode()}
        said |= {"headers": headers, "body": body.decode("latin-1"), "version": scope["http_version"]}
        said |= {"scheme": scope["scheme"]}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"echo")]})
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})

    async def body(self, receive: Receive) -> bytes:
        parts = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return b""
            parts.append(message["body"])
            if not message["more_body"]:
                return b"".join(parts)

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for number in range(5):
            await send({"type": "http.response.body", "body": b"piece %d\n" % number, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body"})

    async def written(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends so many pieces of so many lines without waiting, while that may be; then the last one."""
        client = scope["extensions"]["signet"]
        most, num_lines = map(int, scope["query_string"].split(b"x"))
        self.might_write = [client.may_write]
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"piece 0\n" * num_lines, "more_body": True})
        number = 1
        while client.may_write and number != most:
            client.write(b"piece %d\n" % number * num_lines)
            number += 1
        self.might_write.append(client.may_write)
        self.num_sent = number
        await send({"type": "http.response.body"})
        self.might_write.append(client.may_write)

    async def flood(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        while not self.left.is_set():
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
            self.num_sent += 10_000
            await asyncio.sleep(0)

    async def slow(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.body(receive)
        while not self.go_on.is_set() and not self.left.is_set():  # noqa: ASYNC110 - set from the test's thread
            await asyncio.sleep(0.005)
        await self.whole(send, b"done")

    async def late(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Asks for the body late, as one that first finds out whose it is."""
        while not self.go_on.is_set() and not self.left.is_set():  # noqa: ASYNC110 - set from the test's thread
            await asyncio.sleep(0.005)
        await self.echo(scope, receive, send)

    async def unread(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.whole(send, b"not read", status=401)

    async def hang(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.body(receive)
        await receive()
        self.left.set()

    async def crash(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("on purpose")

    async def cut(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async def empty(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.whole(send, b"", status=204, headers=[])

    async def forge(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.whole(send, b"", headers=[(b"x-name", b"a\r\nset-cookie: b")])

    async def whole(
        self, send: Send, body: bytes, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        given = [(b"content-length", b"%d" % len(body))] if headers is None else headers
        await send({"type": "http.response.start", "status": status, "headers": given})
        await send({"type": "http.response.body", "body": body})


def served_app(
    app: AsgiApp, names_below: Sequence[str] = (), on_refused: Callable[[str], None] = lambda code: None
) -> ServedApp:
    """An application that has the gateway's header fields and errors."""
    return ServedApp(
        app,
        error_body=refusal_body,
        probe_paths=["/healthz"],
        names_below=names_below,
        single_fields=SINGLE_FIELDS,
        requested_fields=REQUESTED_FIELDS,
        exposed_fields=EXPOSED_FIELDS,
        on_refused=on_refused,
        holder_of=lambda headers: headers[b"x-api-key"].decode() if b"x-api-key" in headers else None,
    )


class Served:
    """A running server. Its event loop is another thread's: `call` runs something there."""

    def __init__(
        self,
        settings: HttpSettings,
        tls: TlsSettings | None,
        max_body_bytes: int,
        names_below: Sequence[str] = (),
        cors: CorsSettings | None = None,
    ) -> None:
        self.app = Application()
        self._names_below, self._cors = names_below, cors
        self._max_body_bytes = max_body_bytes
        self.refused: Counter[str] = Counter()
        self.settings, self.tls = settings, tls
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self._up = threading.Event()
        self._thread = threading.Thread(target=uvloop.run, args=(self._run(),), daemon=True)

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.server = Server(
            served_app(self.app, self._names_below, lambda code: self.refused.update([code])),
            self.settings,
            max_body_bytes=self._max_body_bytes,
            tls=self.tls,
            cors=self._cors,
        )
        self._stop = asyncio.Event()
        await self.server.start([self.listener])
        self._up.set()
        await self._stop.wait()
        await self.server.stop()

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._up.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def raw(self, data: bytes) -> bytes:
        """Everything that comes back until the server closes."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)


@contextmanager
def serving(
    tls: TlsSettings | None = None,
    max_body_bytes: int = MAX_BODY,
    names_below: Sequence[str] = (),
    cors: CorsSettings | None = None,
    **settings: Any,
) -> Iterator[Served]:
    with Served(HttpSettings(**settings), tls, max_body_bytes, names_below, cors) as served:
        yield served


def read_all(client: socket.socket) -> bytes:
    parts = []
    while data := client.recv(65536):
        parts.append(data)
    return b"".join(parts)


def answer(client: socket.socket, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """One answer, read by the standard library."""
    response = HTTPResponse(client, method=method)
    response.begin()
    body = response.read()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def get(path: str = "/", *lines: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\n".encode() + HOST + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def post(body: bytes, path: str = "/", *lines: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\n".encode() + HOST + "".join(f"{line}\r\n" for line in lines).encode()
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
