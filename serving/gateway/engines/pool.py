"""The engines behind this gateway: which are up, what they serve, how many answers each has in flight."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from serving.gateway.engines.upstream import Timeouts, UpstreamError, UpstreamPool

Headers = Sequence[tuple[bytes, bytes]]

log = logging.getLogger(__name__)

# Exposed by an engine that runs our plugin.
PLUGIN_METRIC = b"signet_engine_plugin_info"
# How long a starting gateway waits for the engines' first answers; those that come later are known then.
FIRST_PROBE_S = 0.5
# Adapters come and go while an engine runs: ask for its models again every so many probes.
PROBES_PER_LESSON = 15


class _ModelList(msgspec.Struct):
    data: list[dict[str, Any]] = []


_decode_models = msgspec.json.Decoder(_ModelList).decode


class Engine:
    """One engine: its connections, its health, its load."""

    def __init__(
        self,
        url: str,
        timeouts: Timeouts,
        probe_timeouts: Timeouts,
        max_connections: int,
        on_change: Callable[[str, bool], None],
        headers: Headers,
    ) -> None:
        # OpenAI's clients are configured with the /v1 at the end; an engine may well be given so too.
        self.url = url.rstrip("/").removesuffix("/v1")
        self.name = self.url.rpartition("@")[2].rpartition("//")[2]
        self.headers = headers
        self.client = UpstreamPool(self.url, timeouts, max_connections)
        self._probe_client = UpstreamPool(self.url, probe_timeouts, max_connections=8)
        self._probes_since_lesson = 0
        self._on_change = on_change
        self.up = False
        self.has_plugin = False
        self.in_flight = 0
        self.cards: dict[str, dict[str, Any]] = {}
        self.lists_models = True

    def serves(self, model: str) -> bool:
        """Whether the engine has the model, as far as it tells: one that lists none judges by itself."""
        return model in self.cards or (self.up and not self.lists_models)

    async def probe(self) -> None:
        """Ask for health, and from time to time for models and plugin."""
        try:
            healthy = await self._get(b"/health", tolerate_missing=True) is not None
            if healthy and (not self.up or self._probes_since_lesson >= PROBES_PER_LESSON):
                await self._learn()
            reason = "its health check failed"
        except (UpstreamError, msgspec.DecodeError) as error:
            healthy, reason = False, str(error)
        self._probes_since_lesson += 1
        if not healthy:
            self.mark_down(reason)
        elif not self.up:
            self.up = True
            self._on_change(self.name, True)
            log.info("engine is up", extra={"engine": self.name, "models": sorted(self.cards)})

    def mark_down(self, reason: str) -> None:
        """No new requests until a probe succeeds; also called when traffic sees the failure first."""
        if self.up:
            self.up = False
            self._on_change(self.name, False)
            log.warning("engine is down", extra={"engine": self.name, "reason": reason})

    def close(self) -> None:
        self.client.close()
        self._probe_client.close()

    async def _learn(self) -> None:
        models = await self._get(b"/v1/models", tolerate_missing=True)
        self.lists_models = models != b""
        cards = _decode_models(models or b"{}").data
        self.cards = {card["id"]: card for card in cards if isinstance(card.get("id"), str)}
        metrics = await self._get(b"/metrics", tolerate_missing=True)
        self.has_plugin = metrics is not None and PLUGIN_METRIC in metrics
        self._probes_since_lesson = 0

    async def _get(self, target: bytes, tolerate_missing: bool = False) -> bytes | None:
        """The body of a 200 answer, b"" for a path the server does not have, None for any other answer."""
        response = await self._probe_client.request(b"GET", target, self.headers)
        try:
            body = await response.read()
        finally:
            response.close()
        if response.status == 200:
            return body
        return b"" if tolerate_missing and response.status in (404, 405, 501) else None


class EnginePool:
    """All engines, probed in the background. Started and stopped inside a running event loop.

    `on_change` is told an engine's name and whether it is up, whenever that changes; `headers` go with every
    request to an engine.
    """

    def __init__(
        self,
        urls: Sequence[str],
        timeouts: Timeouts,
        *,
        probe_interval_s: float,
        probe_timeout_s: float,
        max_connections: int,
        on_change: Callable[[str, bool], None],
        headers: Headers = (),
    ) -> None:
        self._headers = headers
        self._urls = urls
        self._timeouts = timeouts
        self._probe_timeouts = Timeouts(probe_timeout_s, probe_timeout_s, probe_timeout_s)
        self._max_connections = max_connections
        self._interval = probe_interval_s
        self._on_change = on_change
        self._tasks: list[asyncio.Task[None]] = []
        self.engines: list[Engine] = []

    async def start(self) -> None:
        """Begin to probe; engines that answer at once are known when this returns."""
        self.engines = [
            Engine(url, self._timeouts, self._probe_timeouts, self._max_connections, self._on_change, self._headers)
            for url in self._urls
        ]
        first = [asyncio.create_task(engine.probe()) for engine in self.engines]
        if first:
            await asyncio.wait(first, timeout=FIRST_PROBE_S)
        self._tasks = [
            asyncio.create_task(self._watch(engine, probe)) for engine, probe in zip(self.engines, first, strict=True)
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for engine in self.engines:
            engine.close()

    @property
    def ready(self) -> bool:
        return any(engine.up for engine in self.engines)

    def model_cards(self) -> dict[str, dict[str, Any]]:
        """Every model that an engine serves or, while it restarts, served last."""
        cards: dict[str, dict[str, Any]] = {}
        for engine in self.engines:
            for name, card in engine.cards.items():
                cards.setdefault(name, card)
        return cards

    async def _watch(self, engine: Engine, first: asyncio.Task[None]) -> None:
        await first
        while True:
            await asyncio.sleep(self._interval)
            await engine.probe()
