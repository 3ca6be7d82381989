"""Bare pass-throughs, for comparison: the least that a gateway built on each stack can cost.

    UPSTREAM=http://127.0.0.1:9100 uvicorn --factory loadtests.tools.passthrough:asgi_aiohttp --port 9200

They check nothing, clean nothing and record nothing. Each factory reads the engine's URL from UPSTREAM.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import httpx
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from serving.http.client import Timeouts, UpstreamPool, UpstreamResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
# Status, content type and the pieces of the body.
Answer = tuple[int, str, AsyncIterator[bytes]]
# Sends method, path and body to the engine; the answer is valid inside the context.
Forward = Callable[[str, str, bytes], AbstractAsyncContextManager[Answer]]

_PATHS = ("/v1/chat/completions", "/v1/completions")
_JSON = {"content-type": "application/json"}


def _upstream() -> str:
    return os.environ["UPSTREAM"].rstrip("/")


@asynccontextmanager
async def httpx_client() -> AsyncIterator[Forward]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=_upstream(), timeout=None, limits=limits) as client:

        @asynccontextmanager
        async def forward(method: str, path: str, body: bytes) -> AsyncIterator[Answer]:
            async with client.stream(method, path, content=body, headers=_JSON) as answer:
                yield answer.status_code, answer.headers["content-type"], answer.aiter_raw()

        yield forward


@asynccontextmanager
async def aiohttp_client() -> AsyncIterator[Forward]:
    upstream = _upstream()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        @asynccontextmanager
        async def forward(method: str, path: str, body: bytes) -> AsyncIterator[Answer]:
            async with session.request(method, upstream + path, data=body, headers=_JSON) as answer:
                yield answer.status, answer.headers["content-type"], answer.content.iter_any()

        yield forward


@asynccontextmanager
async def pooled_client() -> AsyncIterator[Forward]:
    """The gateway's own client."""
    pool = UpstreamPool(_upstream(), Timeouts(connect=5, first_byte=60, idle=60))
    headers = ((b"content-type", b"application/json"),)

    @asynccontextmanager
    async def forward(method: str, path: str, body: bytes) -> AsyncIterator[Answer]:
        answer = await pool.request(method.encode(), path.encode(), headers, body)
        try:
            yield answer.status, answer.header(b"content-type").decode(), _pieces(answer)
        finally:
            answer.close()

    yield forward
    pool.close()


async def _pieces(answer: UpstreamResponse) -> AsyncIterator[bytes]:
    while data := await answer.piece():
        yield data


class BareAsgi:
    """An ASGI application without a framework, in front of one of the clients."""

    def __init__(self, client: Callable[[], AbstractAsyncContextManager[Forward]]) -> None:
        self._client = client
        self._forward: Forward | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._client() as self._forward:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._forward is not None
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        async with self._forward(scope["method"], scope["path"], body) as (status, kind, pieces):
            headers = [(b"content-type", kind.encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def asgi_httpx() -> BareAsgi:
    return BareAsgi(httpx_client)


def asgi_aiohttp() -> BareAsgi:
    return BareAsgi(aiohttp_client)


def asgi_pooled() -> BareAsgi:
    return BareAsgi(pooled_client)


def fastapi_httpx() -> FastAPI:
    """What most gateways written in Python start as."""
    return _fastapi(httpx_client)


def fastapi_aiohttp() -> FastAPI:
    return _fastapi(aiohttp_client)


def _fastapi(client: Callable[[], AbstractAsyncContextManager[Forward]]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with client() as app.state.forward:
            yield

    app = FastAPI(lifespan=lifespan)

    async def answer(request: Request) -> StreamingResponse:
        opened = app.state.forward(request.method, request.url.path, await request.body())
        status, kind, pieces = await opened.__aenter__()

        async def body() -> AsyncIterator[bytes]:
            try:
                async for piece in pieces:
                    yield piece
            finally:
                await opened.__aexit__(None, None, None)

        return StreamingResponse(body(), status, media_type=kind)

    app.get("/v1/models", response_model=None)(answer)
    for path in _PATHS:
        app.post(path, response_model=None)(answer)
    return app
