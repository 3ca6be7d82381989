"""Requests leave no reference cycles behind.

The gateway collects garbage rarely, since each collection stops every stream. What a request leaves in a cycle would
stay for hours and fill the memory.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from running import free_port
from scripted import CLOSE, EVENTS, HANG, ScriptedEngine, answer, chunk, stream, whole

from serving.gateway.http.server import Server
from serving.gateway.listen import bind
from serving.gateway.server import build
from serving.identity import Identity
from serving.settings import load_settings

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


@pytest.fixture
async def gateway(engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[InProcess]:
    gateway = {"engine_urls": [engine.url], "port": free_port(), "probe_interval_s": 3600.0}
    settings = load_settings(overrides={"home": tmp_path, "gateway": gateway}, environment={})
    identity = Identity(settings.database_url)
    key = identity.create_key("acme").key
    identity.close()
    app = build(settings, reload=list)
    [listener] = bind(settings.gateway)
    server = Server(app, settings.gateway.http, max_body_bytes=settings.gateway.max_body_bytes)
    await server.start([listener])
    yield InProcess(f"http://127.0.0.1:{settings.gateway.port}", key)
    await server.drain(5)
    await server.stop()


LEFT = "left"
CASES: dict[str, tuple[list[object], dict[str, object] | str]] = {
    "whole": (whole(answer("hello")), {}),
    "stream": (stream(["Hel", "lo"]), {"stream": True}),
    "broken stream": ([EVENTS, chunk({"role": "assistant", "content": "Hel"}), CLOSE], {"stream": True}),
    "refused": (whole({"error": {"message": "no"}}, status=400), {}),
    "engine failed": (whole({"error": {"message": "no"}}, status=500), {}),
    "bad question": (whole(answer("hello")), {"n": 0}),
    "client left": ([EVENTS, chunk({"role": "assistant", "content": "Hello, "}), HANG], LEFT),
}


@pytest.mark.parametrize("case", CASES)
async def test_no_request_leaves_cycles(gateway: InProcess, engine: ScriptedEngine, case: str):
    script, question = CASES[case]
    engine.script = lambda _: script

    async def go() -> None:
        if isinstance(question, str):
            await gateway.leave()
        else:
            await gateway.ask(**question)

    await go()
    await asyncio.sleep(0.1)  # what closes, closes in the turns after
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await go()
        await asyncio.sleep(0.1)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = Counter(f"{type(each).__module__}.{type(each).__name__}" for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    ours = {name: count for name, count in left.items() if name.startswith(("serving.", "httptools."))}
    assert not ours, left
