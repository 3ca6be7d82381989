"""An engine that does exactly what a test says: creates what a real one cannot, such as a stream cut at byte 17."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.support.threaded_server import ThreadedServer

CLOSE = object()
"""In a script: close the connection here and now."""
HANG = object()
"""In a script: send nothing more and wait for the client to leave. A float: seconds to pause."""


@dataclass
class SeenRequest:
    target: str
    headers: dict[str, str]
    body: dict[str, Any]
    client_left: threading.Event = field(default_factory=threading.Event)


Script = Callable[[SeenRequest], Iterable[object]]


def head(status: int = 200, content_type: str = "application/json", length: int | None = None) -> bytes:
    framing = f"content-length: {length}" if length is not None else "connection: close"
    return f"HTTP/1.1 {status} Scripted\r\ncontent-type: {content_type}\r\n{framing}\r\n\r\n".encode()


def whole(body: dict[str, Any], status: int = 200) -> list[object]:
    data = json.dumps(body).encode()
    return [head(status, length=len(data)) + data]


def answer(text: str, **message: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish, **more}
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    return b"data: " + json.dumps({**event, "choices": [choice]}).encode() + b"\n\n"


def usage_chunk(prompt: int = 5, completion: int = 7) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    return b"data: " + json.dumps({**event, "choices": [], "usage": usage}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
EVENTS = head(content_type="text/event-stream")


def stream(texts: Iterable[str], usage: bool = True) -> list[object]:
    """A well-behaved stream with one network write an event."""
    events: list[object] = [EVENTS, chunk({"role": "assistant", "content": ""})]
    events += [chunk({"content": text}) for text in texts]
    events.append(chunk({}, finish="stop"))
    if usage:
        events.append(usage_chunk())
    return [*events, DONE]


class ScriptedEngine(ThreadedServer):
    """Serves `fixed_paths`, 404 for other paths, and answers every request with a body by `script`."""

    def __init__(self, has_plugin: bool = True) -> None:
        self.script: Script = lambda _: whole(answer("hello"))
        models = {"object": "list", "data": [{"id": "scripted", "object": "model", "max_model_len": 512}]}
        self.fixed_paths = {
            "/health": b"",
            "/v1/models": json.dumps(models).encode(),
            "/metrics": b'signet_engine_plugin_info{schemes="gumbel,kgw,synthid"} 1.0\n' if has_plugin else b"\n",
        }
        self.seen: list[SeenRequest] = []
        super().__init__()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await self._read(reader):
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> SeenRequest | None:
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        except asyncio.IncompleteReadError:
            return None
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        return SeenRequest(lines[0].split(" ")[1], headers, json.loads(data) if data else {})

    async def _answer(self, request: SeenRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        fixed = self._fixed(request)
        if fixed is None:
            self.seen.append(request)
        for step in fixed if fixed is not None else self.script(request):
            if step is CLOSE:
                return False
            if step is HANG:
                await reader.read()
                request.client_left.set()
                return False
            if isinstance(step, float):
                await asyncio.sleep(step)
                continue
            assert isinstance(step, bytes)
            writer.write(step)
            await writer.drain()
            await asyncio.sleep(0)
            if b"connection: close" in step:
                request.headers["x-closing"] = "1"
        return "x-closing" not in request.headers

    def _fixed(self, request: SeenRequest) -> list[object] | None:
        if request.body:
            return None
        text = self.fixed_paths.get(request.target)
        return [head(404, length=0)] if text is None else [head(length=len(text)) + text]
