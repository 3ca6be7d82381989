"""A gateway in the test's own process, where its objects can be looked at and its functions made to fail."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from serving.gateway.app import GatewayApp
from serving.gateway.build import build
from serving.gateway.process.listen import bind
from serving.gateway.settings import GatewaySettings
from serving.http.server import Server
from serving.identity import Identity
from serving.settings import load_settings
from tests.serving.gateway.engines.pools import eventually
from tests.support.gateways import prepare_database
from tests.support.running import free_port

Serve = Callable[[GatewayApp, GatewaySettings, socket.socket], AbstractAsyncContextManager[None]]
CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "Write to anna@example.com."}]}


@dataclass
class InProcess:
    """A gateway in the test's own process, whose objects can be looked at."""

    url: str
    key: str

    async def ask(self, **more: object) -> bytes:
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {self.key}"}, timeout=20) as client:
            found = await client.post(f"{self.url}/v1/chat/completions", json={**CHAT, **more})
            return found.content

    async def leave(self) -> None:
        """Begin to read a stream and go."""
        headers = {"authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(headers=headers, timeout=20) as client:
            request = client.build_request("POST", f"{self.url}/v1/chat/completions", json={**CHAT, "stream": True})
            found = await client.send(request, stream=True)
            await anext(found.aiter_bytes())
            await found.aclose()


@asynccontextmanager
async def by_our_server(app: GatewayApp, settings: GatewaySettings, listener: socket.socket) -> AsyncIterator[None]:
    server = Server(app.served(), settings.http, max_body_bytes=settings.max_body_bytes)
    await server.start([listener])
    yield
    await server.drain(5)
    await server.stop()


@asynccontextmanager
async def by_uvicorn(app: GatewayApp, settings: GatewaySettings, listener: socket.socket) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_config=None))
    serving = asyncio.create_task(server.serve([listener]))
    await eventually(lambda: server.started, "uvicorn listens")
    yield
    server.should_exit = True
    await serving


@asynccontextmanager
async def running_in_process(engine_url: str, home: Path, serve: Serve = by_our_server) -> AsyncIterator[InProcess]:
    gateway = {"engine_urls": [engine_url], "port": free_port(), "probe_interval_s": 3600.0}
    settings = load_settings(overrides={"home": home, "gateway": gateway}, environment={})
    prepare_database(home)
    identity = Identity(settings.database_url)
    key = identity.create_key("acme").key
    identity.close()
    app = build(settings, reload=list)
    [listener] = bind(settings.gateway)
    async with serve(app, settings.gateway, listener):
        yield InProcess(f"http://127.0.0.1:{settings.gateway.port}", key)
