"""Streams that stay open, while other requests are measured: what a gateway pays for those it is not working on."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import urlsplit

from loadtests.tools.client import chat_body
from loadtests.tools.processes import Program
from loadtests.tools.targets import Target

FEW, SOME, MANY = 100, 1_000, 10_000
# Files of the gateway that are not connections of streams.
_OTHER_FILES = 600
_OPENED_AT_ONCE = 200
_TIMEOUT_S = 60.0


def allow_files() -> None:
    """Let this process, and those that it starts, open as many files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_streams() -> int:
    """`MANY`, or as many as the limit of open files allows a gateway, which needs two for each."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MANY if hard == resource.RLIM_INFINITY else min(MANY, (hard - _OTHER_FILES) // 2)


class _Stream(asyncio.Protocol):
    """One stream; `begun` is done when its first event is here."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.begun.done():
            if data.startswith(b"HTTP/1.1 200"):
                self.begun.set_result(None)
            else:
                self.begun.set_exception(RuntimeError(f"a stream was refused: {data[:60]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.begun.done():
            self.begun.set_exception(RuntimeError("a stream was cut off before it began"))


@asynccontextmanager
async def open_streams(target: Target, num_streams: int) -> AsyncIterator[None]:
    """Keep `num_streams` streams open inside; the engine must give each its first event and then be silent.

    Raises:
        RuntimeError: one of them was not begun.
    """
    parts = urlsplit(target.url)
    content = json.dumps(chat_body(64), separators=(",", ":")).encode()
    headers = {"host": parts.netloc, "content-type": "application/json", **target.headers}
    lines = ["POST /v1/chat/completions HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    request = "\r\n".join([*lines, f"content-length: {len(content)}"]).encode() + b"\r\n\r\n" + content
    loop = asyncio.get_running_loop()
    streams: list[_Stream] = []
    try:
        for first in range(0, num_streams, _OPENED_AT_ONCE):
            connecting = [
                loop.create_connection(lambda: _Stream(request), parts.hostname or "", parts.port or 80)
                for _ in range(min(_OPENED_AT_ONCE, num_streams - first))
            ]
            new = [stream for _, stream in await asyncio.gather(*connecting)]
            streams += new
            async with asyncio.timeout(_TIMEOUT_S):
                await asyncio.gather(*(stream.begun for stream in new))
        yield
    finally:
        for opened in streams:
            if opened.transport is not None:
                opened.transport.abort()
        await asyncio.sleep(0)  # lets the transports close


def wait_idle(program: Program) -> None:
    """Return when a program has done what it had left to do."""
    before, deadline = program.cpu_s(), time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        time.sleep(0.25)
        now = program.cpu_s()
        if now - before < 0.02:
            return
        before = now
