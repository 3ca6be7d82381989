"""The engines behind this gateway: they come and go while it runs, and are probed in the background."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from serving.gateway.engines.address import Address
from serving.gateway.engines.build import connections_from, sources_from, static_addresses
from serving.gateway.engines.discovery import Source
from serving.gateway.engines.engine import Engine
from serving.gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

# How long a starting gateway waits for the engines' first answers; those that come later are known then.
FIRST_PROBE_S = 0.5
# Failing traffic has an engine probed at once, but not more often than this.
MIN_PROBE_GAP_S = 0.1


class PoolMetrics(Protocol):
    """Where the pool counts."""

    def engine_state(self, engine: str, up: bool, draining: bool, circuit: str) -> None: ...

    def engine_gone(self, engine: str) -> None: ...

    def discovery(self, source: str, working: bool) -> None: ...

    def discovery_gone(self, source: str) -> None: ...


class EnginePool:
    """All engines. Made anywhere; started, changed and stopped on one event loop.

    `engines` is a live list. Callbacks in `on_capacity` are called when an engine comes up or goes, or an answer is
    over; those in `on_change` with an engine that is up, down, draining or gone now, or whose circuit has changed.

    Raises:
        ValueError: a setting cannot be used; with one line for the user.
    """

    LIVE = (
        "gateway.engine_urls",
        "gateway.engine_api_key",
        "gateway.engine_dns",
        "gateway.engine_dns_interval_s",
        "gateway.engine_services",
        "gateway.kubeconfig",
        "gateway.engine_tls",
        "gateway.circuit",
        "gateway.max_connections_per_engine",
        "gateway.connect_timeout_s",
        "gateway.first_byte_timeout_s",
        "gateway.idle_timeout_s",
        "gateway.probe_interval_s",
        "gateway.probe_timeout_s",
        "gateway.load_interval_s",
    )
    """Settings that a running pool takes up."""

    def __init__(self, settings: GatewaySettings, metrics: PoolMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._connections = connections_from(settings)
        self._sources: dict[str, Source] = {source.label: source for source in sources_from(settings)}
        self._source_tasks: dict[str, asyncio.Task[None]] = {}
        self._static = static_addresses(settings)
        self._found: dict[str, list[Address]] = {}
        self._watches: dict[Engine, asyncio.Task[None]] = {}
        self._departing: set[Engine] = set()
        self._started = False
        self._news = asyncio.Event()
        self.engines: list[Engine] = []
        self.on_capacity: list[Callable[[], None]] = []
        self.on_change: list[Callable[[Engine], None]] = []

    async def start(self) -> None:
        """Begin to look for engines and to probe; those that answer at once are known when this returns."""
        self._started = True
        self._run_sources()
        self._update()
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_PROBE_S):
                while not self._all_known():
                    self._news.clear()
                    await self._news.wait()

    async def stop(self) -> None:
        tasks = [*self._source_tasks.values(), *self._watches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._source_tasks.clear()
        self._watches.clear()
        for engine in (*self.engines, *self._departing):
            engine.close()

    def apply(self, settings: GatewaySettings) -> None:
        """Take new settings: other engines or sources, other credentials. Answers in flight go on.

        Raises:
            ValueError: a setting cannot be used; nothing has changed then.
        """
        connections, sources, static = connections_from(settings), sources_from(settings), static_addresses(settings)
        renew = connections != self._connections
        self._settings, self._connections, self._static = settings, connections, static
        before, self._sources = self._sources, {source.label: source for source in sources}
        if not self._started:
            return
        for label in [label for label, source in before.items() if self._sources.get(label) != source]:
            self._source_tasks.pop(label).cancel()
            self._found.pop(label, None)
            self._metrics.discovery_gone(label)
        self._run_sources()
        if renew:
            for engine in list(self.engines):
                self._leave(engine)
        self._update()

    @property
    def ready(self) -> bool:
        return any(engine.available for engine in self.engines)

    def only_model(self) -> str | None:
        """The served model, where there is exactly one."""
        cards = self.model_cards()
        return next(iter(cards)) if len(cards) == 1 else None

    def model_cards(self) -> dict[str, dict[str, Any]]:
        """Every model that an engine serves or, while it restarts, served last."""
        cards: dict[str, dict[str, Any]] = {}
        for engine in self.engines:
            for name, card in engine.cards.items():
                cards.setdefault(name, card)
        return cards

    def lists(self, model: str) -> bool:
        """Whether an engine names the model; one that names none takes any."""
        return any(model in engine.cards for engine in self.engines)

    def engine_changed(self, engine: Engine) -> None:
        """Called by engines."""
        if engine in self._watches:
            self._metrics.engine_state(engine.name, engine.up, engine.draining, engine.circuit.state)
        self._news.set()
        for callback in self.on_change:
            callback(engine)
        self._tell_capacity()

    def slot_freed(self, engine: Engine) -> None:
        """Called by engines."""
        if self._departing and not engine.in_flight and engine in self._departing:
            self._close(engine)
        for callback in self.on_capacity:
            callback()

    def _tell_capacity(self) -> None:
        for callback in self.on_capacity:
            callback()

    def _all_known(self) -> bool:
        """Whether every source has reported and every engine has answered its first probe."""
        return self._found.keys() >= self._sources.keys() and all(engine.up for engine in self.engines)

    def _run_sources(self) -> None:
        for label, source in self._sources.items():
            if label not in self._source_tasks:
                report = _SourceReport(label, self._source_found, self._source_absent, self._metrics)
                self._source_tasks[label] = asyncio.create_task(source.run(report))

    def _source_found(self, label: str, addresses: Sequence[Address]) -> None:
        if label in self._source_tasks:
            self._found[label] = list(addresses)
            self._news.set()
            self._update()

    def _source_absent(self, label: str) -> None:
        up = {engine.name for engine in self.engines if engine.up}
        self._source_found(label, [address for address in self._found.get(label, ()) if address.name in up])

    def _update(self) -> None:
        """Make `engines` what the sources have found."""
        # Two sources may know the same engine: the first one's word counts.
        wanted: dict[str, Address] = {}
        for addresses in (self._static, *self._found.values()):
            for address in addresses:
                wanted.setdefault(address.name, address)
        # A source that has not reported since a reload must not cost the engines it may be about to find.
        if self._found.keys() >= self._sources.keys():
            for engine in [engine for engine in self.engines if not _is_at(engine, wanted.get(engine.name))]:
                self._leave(engine)
        present = {engine.name: engine for engine in self.engines}
        for name, address in wanted.items():
            engine = present.get(name) or self._join(address)
            engine.drain("discovery", address.draining)

    def _join(self, address: Address) -> Engine:
        engine = next((departing for departing in self._departing if _is_at(departing, address)), None)
        if engine is None:
            engine = Engine(address, self._connections, self)
            log.info("engine joins", extra={"engine": engine.name})
        else:
            self._departing.discard(engine)
        self.engines.append(engine)
        self._watches[engine] = asyncio.create_task(self._watch(engine))
        engine.drain("gone", False)
        self._metrics.engine_state(engine.name, engine.up, engine.draining, engine.circuit.state)
        return engine

    def _leave(self, engine: Engine) -> None:
        """No new requests; what is in flight finishes, then the connections are closed."""
        log.info("engine leaves", extra={"engine": engine.name, "count": engine.in_flight})
        self.engines.remove(engine)
        self._watches.pop(engine).cancel()
        self._departing.add(engine)
        engine.drain("gone")
        if not engine.in_flight:
            self._close(engine)

    def _close(self, engine: Engine) -> None:
        self._departing.discard(engine)
        engine.close()
        if all(other.name != engine.name for other in self.engines):
            self._metrics.engine_gone(engine.name)

    async def _watch(self, engine: Engine) -> None:
        loop = asyncio.get_running_loop()
        next_scrape = 0.0
        while True:
            engine.suspected.clear()
            try:
                await engine.probe()
                if engine.up and loop.time() >= next_scrape:
                    await engine.scrape()
                    next_scrape = loop.time() + self._settings.load_interval_s
            except Exception:
                # Whatever an engine answers, it must not end the watch over it.
                log.exception("probe failed", extra={"engine": engine.name})
                engine.mark_down("its answer to a probe could not be read")
            await asyncio.sleep(min(MIN_PROBE_GAP_S, self._settings.probe_interval_s))
            # Replicas of the gateway must not come to ask all at the same moment.
            pause = self._settings.probe_interval_s * random.uniform(0.9, 1.1) - MIN_PROBE_GAP_S  # noqa: S311
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, pause)):
                    await engine.suspected.wait()


class _SourceReport:
    """Carries one source's reports to the pool; says once when it begins to fail, and once when it works again."""

    def __init__(
        self,
        label: str,
        found: Callable[[str, Sequence[Address]], None],
        absent: Callable[[str], None],
        metrics: PoolMetrics,
    ) -> None:
        self._label = label
        self._found = found
        self._absent = absent
        self._metrics = metrics
        self._working: bool | None = None

    def found(self, addresses: Sequence[Address]) -> None:
        if self._working is False:
            log.info("discovery works again", extra={"source": self._label, "count": len(addresses)})
        self._set(True)
        self._found(self._label, addresses)

    def absent(self) -> None:
        self._set(True)
        self._absent(self._label)

    def failed(self, reason: str) -> None:
        if self._working is not False:
            message = "discovery fails; the engines known stay"
            log.warning(message, extra={"source": self._label, "reason": reason})
        self._set(False)

    def _set(self, working: bool) -> None:
        if working != self._working:
            self._working = working
            self._metrics.discovery(self._label, working)


def _is_at(engine: Engine, address: Address | None) -> bool:
    """Whether the engine is the one that `address` speaks of, and not another under its name."""
    return address is not None and (engine.url, engine.address.server_name) == (address.url, address.server_name)
