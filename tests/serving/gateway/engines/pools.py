"""A pool in the test's own event loop, with what it reports kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from serving.gateway.engines.pool import EnginePool
from serving.gateway.settings import GatewaySettings


class PoolLog:
    """The metrics that a pool would show."""

    def __init__(self) -> None:
        self.engines: dict[str, tuple[bool, bool, str]] = {}
        self.sources: dict[str, bool] = {}

    def engine_state(self, engine: str, up: bool, draining: bool, circuit: str) -> None:
        self.engines[engine] = (up, draining, circuit)

    def engine_gone(self, engine: str) -> None:
        del self.engines[engine]

    def discovery(self, source: str, working: bool) -> None:
        self.sources[source] = working

    def discovery_gone(self, source: str) -> None:
        del self.sources[source]


def pool_settings(*urls: str, **more: Any) -> GatewaySettings:
    quick = {"probe_interval_s": 0.05, "probe_timeout_s": 0.2, "load_interval_s": 0.05}
    return GatewaySettings(engine_urls=list(urls), **{**quick, **more})


@asynccontextmanager
async def running_pool(settings: GatewaySettings) -> AsyncIterator[tuple[EnginePool, PoolLog]]:
    log = PoolLog()
    pool = EnginePool(settings, log)
    await pool.start()
    try:
        yield pool, log
    finally:
        await pool.stop()


async def eventually(condition: Callable[[], bool], what: str, seconds: float = 5.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.01)
