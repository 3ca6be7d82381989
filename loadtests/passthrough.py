"""Bare pass-throughs, for comparison: the least that a gateway built on each stack can cost.

    UPSTREAM=http://127.0.0.1:9100 uvicorn --factory loadtests.passthrough:asgi_aiohttp --port 9200

They check nothing, clean nothing and record nothing.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_PATHS = ("/v1/chat/completions", "/v1/completions")
_JSON = {"content-type": "application/json"}


def _upstream() -> str:
    return os.environ["UPSTREAM"].rstrip("/")


def fastapi_httpx() -> FastAPI:
    """FastAPI and httpx: what most gateways written in Python start as."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(base_url=_upstream(), timeout=None, limits=limits) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/v1/models")
    async def models() -> Any:
        return (await app.state.client.get("/v1/models")).json()

    async def generate(request: Request) -> StreamingResponse:
        client: httpx.AsyncClient = app.state.client
        sent = client.build_request("POST", request.url.path, content=await request.body(), headers=_JSON)
        answer = await client.send(sent, stream=True)

        async def body() -> AsyncIterator[bytes]:
            try:
                async for piece in answer.aiter_raw():
                    yield piece
            finally:
                await answer.aclose()

        return StreamingResponse(body(), answer.status_code, media_type=answer.headers.get("content-type"))

    for path in _PATHS:
        app.post(path)(generate)
    return app


def fastapi_aiohttp() -> FastAPI:
    """FastAPI and aiohttp, bytes through."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            app.state.session = session
            yield

    app = FastAPI(lifespan=lifespan)
    upstream = _upstream()

    @app.get("/v1/models")
    async def models() -> Any:
        async with app.state.session.get(f"{upstream}/v1/models") as answer:
            return await answer.json()

    async def generate(request: Request) -> StreamingResponse:
        session: aiohttp.ClientSession = app.state.session
        answer = await session.post(upstream + request.url.path, data=await request.body(), headers=_JSON)

        async def body() -> AsyncIterator[bytes]:
            async with answer:
                async for piece in answer.content.iter_any():
                    yield piece

        return StreamingResponse(body(), answer.status, media_type=answer.headers.get("content-type"))

    for path in _PATHS:
        app.post(path)(generate)
    return app


class AsgiAiohttp:
    """A bare ASGI application and aiohttp: the floor of that client."""

    def __init__(self) -> None:
        self._upstream = _upstream()
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._forward(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as self._session:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._session is not None
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        url = self._upstream + scope["path"]
        async with self._session.request(scope["method"], url, data=body, headers=_JSON) as answer:
            kind = answer.headers.get("content-type", "application/json").encode()
            await send({"type": "http.response.start", "status": answer.status, "headers": [(b"content-type", kind)]})
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def asgi_aiohttp() -> AsgiAiohttp:
    return AsgiAiohttp()
