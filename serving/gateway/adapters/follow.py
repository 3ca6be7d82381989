"""Brings every engine the live adapters of its base, and takes away those that are none any more.

What is to be served stands in the database, so an engine that joins or restarts gets it too, from any gateway. The
engine verifies each adapter once more where its bytes are, before it loads them (`serving.engine.gate`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from serving.gateway.engines.engine import Engine
from serving.gateway.engines.pool import EnginePool
from serving.http.client import UpstreamError
from serving.identity import Identity, LiveAdapter
from serving.identity.adapter import SERVED_NAME

log = logging.getLogger(__name__)

LOAD, UNLOAD = b"/v1/load_lora_adapter", b"/v1/unload_lora_adapter"
INTERVAL_S = 0.5
# What an engine refused it is asked for again after so long: somebody may have put the files there meanwhile.
REST_S = 30.0
_MOST_REASON_CHARS = 500

State = Literal["loaded", "loading", "refused", "down"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one engine is with one adapter."""

    engine: str
    state: State
    reason: str = ""


class Adapters:
    """Keeps a pool's engines, those that join later too, with the adapters that the database names."""

    def __init__(self, identity: Identity, pool: EnginePool) -> None:
        self._identity = identity
        self._pool = pool
        self._task: asyncio.Task[None] | None = None
        self._working: dict[Engine, asyncio.Task[None]] = {}
        self._refused: dict[tuple[str, str], tuple[str, float]] = {}
        """Why, and until when no other try is made, by engine and served name."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        tasks = [*self._working.values(), *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget_refusals(self, served_name: str) -> None:
        """An administrator asks anew."""
        self._refused = {key: why for key, why in self._refused.items() if key[1] != served_name}

    def look(self) -> None:
        """Begin to bring each engine what it lacks."""
        for engine in self._pool.engines:
            if engine.up and engine not in self._working and (self._lacking(engine) or self._leftover(engine)):
                self._working[engine] = asyncio.create_task(self._bring(engine))

    def progress(self, adapter: LiveAdapter) -> Sequence[Progress]:
        """How far every engine of the adapter's base is, as this process knows."""
        return [self._progress(engine, adapter) for engine in self._pool.engines if _is_on(engine, adapter)]

    async def settle(self, seconds: float) -> None:
        """Bring all that is lacking now, and wait until it is there or refused; no longer than so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                self.look()
                while working := list(self._working.values()):
                    await asyncio.wait(working)

    async def _follow(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(INTERVAL_S)

    def _progress(self, engine: Engine, adapter: LiveAdapter) -> Progress:
        if adapter.served_name in engine.cards:
            return Progress(engine.name, "loaded" if engine.up else "down")
        if not engine.up:
            return Progress(engine.name, "down")
        reason, _ = self._refused.get((engine.name, adapter.served_name), ("", 0.0))
        return Progress(engine.name, "refused" if reason else "loading", reason)

    def _lacking(self, engine: Engine) -> list[LiveAdapter]:
        now = asyncio.get_running_loop().time()
        return [
            adapter
            for adapter in self._identity.live_adapters.values()
            if _is_on(engine, adapter)
            and adapter.served_name not in engine.cards
            and self._refused.get((engine.name, adapter.served_name), ("", 0.0))[1] <= now
        ]

    def _leftover(self, engine: Engine) -> list[str]:
        """Versions that nobody wants any more; one that is replaced stays until its successor is there."""
        wanted = self._identity.live_adapters
        leftover = []
        for name, card in engine.cards.items():
            parts = SERVED_NAME.fullmatch(name)
            if parts is None or not card.get("parent"):
                continue
            adapter = wanted.get(parts[1])
            if adapter is None or (adapter.served_name != name and adapter.served_name in engine.cards):
                leftover.append(name)
        return leftover

    async def _bring(self, engine: Engine) -> None:
        try:
            for adapter in self._lacking(engine):
                await self._load(engine, adapter)
            for name in self._leftover(engine):
                reply = await engine.tell(UNLOAD, msgspec.json.encode({"lora_name": name}))
                log.info("adapter unloaded", extra={"engine": engine.name, "model": name, "status": reply.status})
                if reply.status >= 500:
                    break
        except (UpstreamError, msgspec.DecodeError) as error:
            log.warning("adapters are not brought", extra={"engine": engine.name, "reason": str(error)})
            await asyncio.sleep(INTERVAL_S)
        finally:
            self._working.pop(engine, None)

    async def _load(self, engine: Engine, adapter: LiveAdapter) -> None:
        name = adapter.served_name
        body = msgspec.json.encode({"lora_name": name, "lora_path": adapter.digest})
        reply = await engine.tell(LOAD, body)
        key = (engine.name, name)
        if name in engine.cards:  # also where another gateway was faster
            self._refused.pop(key, None)
            log.info("adapter loaded", extra={"engine": engine.name, "model": name})
            return
        reason = _reason(reply.status, reply.body)
        self._refused[key] = (reason, asyncio.get_running_loop().time() + REST_S)
        log.warning("adapter is refused", extra={"engine": engine.name, "model": name, "reason": reason})


def _is_on(engine: Engine, adapter: LiveAdapter) -> bool:
    """Whether the engine serves the adapter's base, as far as it announces checkpoints."""
    return adapter.base in engine.manifests.values()


def _reason(status: int, answer: bytes) -> str:
    try:
        message = msgspec.json.decode(answer)["error"]["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        message = ""
    if status == 404 and "takes no adapters" not in str(message):
        message = "it takes no adapters while it runs"
    return f"status {status}: {str(message)[:_MOST_REASON_CHARS]}"
