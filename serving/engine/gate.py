"""In front of vLLM's server, in its process: who may ask, and what adapters may be loaded while it serves.

vLLM asks for its key below a few prefixes only: `/invocations` answers anybody, and with adapters that may be loaded
at run time `/adapters` loads any folder for anybody. Here every path asks for it but those of health and metrics; and
an adapter is named by its checkpoint, found in this machine's registry and verified before vLLM is told its folder.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from hmac import compare_digest
from http import HTTPStatus
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from serving.engine.announced import announce, withdraw
from training.registry import Registry, RegistryError, UnknownCheckpoint, find_adapter

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

VARIABLE = "SIGNET_LIVE_ADAPTERS"
OPEN_PATHS = frozenset({"/health", "/metrics", "/ping"})
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
# The same of Amazon SageMaker, by which any folder could be named.
OTHER_LOADERS = "/adapters"
MOST_BODY_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class LiveAdapters:
    """Where adapters are found, and on what they may have been trained."""

    registry: str
    keys: str
    bases: list[str]
    """Digests of what this engine serves."""

    def to_variable(self) -> str:
        """For the environment of vLLM's process."""
        return json.dumps(asdict(self))


class EngineGate:
    """ASGI middleware; vLLM makes it, so it takes its settings from the environment."""

    def __init__(self, app: App) -> None:
        self._app = app
        key = os.environ.get("VLLM_API_KEY")
        self._key = sha256(key.encode()).digest() if key else None
        told = os.environ.get(VARIABLE)
        # Without a key whoever reaches the port could load and unload.
        self._adapters = LiveAdapters(**json.loads(told)) if told and self._key else None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in OPEN_PATHS and not self._is_known(scope):
            await _refuse(scope, send, HTTPStatus.UNAUTHORIZED, "this engine asks for its key")
        elif path in (LOAD, UNLOAD) and self._adapters is not None:
            await self._change(self._adapters, path, scope, receive, send)
        elif path in (LOAD, UNLOAD) or path == OTHER_LOADERS or path.startswith(OTHER_LOADERS + "/"):
            await _refuse(scope, send, HTTPStatus.NOT_FOUND, "this engine takes no adapters while it runs")
        else:
            await self._app(scope, receive, send)

    def _is_known(self, scope: Message) -> bool:
        if self._key is None:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, key = given.partition(b" ")
        return scheme.lower() == b"bearer" and compare_digest(sha256(key).digest(), self._key)

    async def _change(self, live: LiveAdapters, path: str, scope: Message, receive: Receive, send: Send) -> None:
        """Load an adapter that verifies, or unload one; then tell on /metrics which checkpoint its name is."""
        try:
            asked = json.loads(await _body(receive))
            name = asked["lora_name"]
            told = {"lora_name": name}
            if path == LOAD:
                digest = asked["lora_path"]
                told["lora_path"] = str(await asyncio.to_thread(_verified, live, name, digest))
        except (ValueError, KeyError, TypeError, AttributeError):
            await _refuse(scope, send, HTTPStatus.BAD_REQUEST, "the body does not name an adapter and its digest")
            return
        except RegistryError as error:
            await _refuse(scope, send, HTTPStatus.BAD_REQUEST, str(error))
            return
        body = json.dumps(told).encode()

        async def receive_told() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.OK:
                if path == LOAD:
                    announce(name, digest, REGISTRY)
                else:
                    withdraw(name, REGISTRY)
            await send(message)

        framing = (b"content-length", b"transfer-encoding", b"content-type")
        kept = [(header, value) for header, value in scope["headers"] if header not in framing]
        headers = [*kept, (b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        await self._app({**scope, "headers": headers}, receive_told, send_on)


def _verified(live: LiveAdapters, ref: str, digest: str) -> Path:
    """The folder of an adapter that is what the gateway means by it, and belongs on what is served here."""
    adapter, base = find_adapter(Registry(Path(live.registry), Path(live.keys)), ref)
    if adapter.ref != ref or adapter.digest != digest:
        raise UnknownCheckpoint(f"{ref} is another checkpoint in this engine's registry: it has {adapter.digest}")
    if base.digest not in live.bases:
        raise UnknownCheckpoint(f"{ref} was trained on {base.ref}, which this engine does not serve")
    return adapter.path.resolve()


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > MOST_BODY_BYTES:
            raise ValueError("too long")
        if not message.get("more_body"):
            return body


async def _refuse(scope: Message, send: Send, status: HTTPStatus, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    kind = "BadRequestError" if status is HTTPStatus.BAD_REQUEST else status.phrase
    body = json.dumps({"error": {"message": why, "type": kind, "param": None, "code": int(status)}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
