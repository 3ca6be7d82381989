"""One engine: its connections, its health, what it serves, how many answers it has in flight."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from zlib import crc32

import msgspec

from serving.gateway.engines.address import Address
from serving.gateway.engines.circuit import Circuit, CircuitPolicy
from serving.gateway.engines.load import (
    PLUGIN_METRIC,
    EngineLoad,
    LoadEstimate,
    parse_load,
    parse_manifests,
    parse_sampling,
    parse_schemes,
)
from serving.gateway.engines.refusal import Refusal
from serving.gateway.engines.seen import SeenPrefixes, blocks_for
from serving.http.client import Reply, Timeouts, UpstreamError, UpstreamPool, UpstreamTimeout

Headers = Sequence[tuple[bytes, bytes]]

log = logging.getLogger(__name__)

# Adapters come and go while an engine runs: ask for its models again every so many probes.
PROBES_PER_LESSON = 15
# A busy engine may miss one probe; one that refuses the connection is down at once.
MISSED_PROBES = 2
# Metrics, or a list of models: vLLM's are a few hundred kilobytes, and are read on the event loop.
MOST_SHOWN_BYTES = 4 * 1024 * 1024
# Of an answer to something that is no question: an error's message.
MOST_TOLD_BYTES = 64 * 1024
JSON_CONTENT = (b"content-type", b"application/json")


class BodyTooLarge(UpstreamError):
    """A server that calls itself an engine sends more than any engine has to say."""


class _ModelList(msgspec.Struct):
    data: list[dict[str, Any]] = []


_decode_models = msgspec.json.Decoder(_ModelList).decode


@dataclass(frozen=True, slots=True)
class Connections:
    """How engines are reached; the same for all of a pool. `headers` go with every request.

    `tls_digest` stands for `tls` where two of these are compared: contexts made from the same files are equal.
    """

    timeouts: Timeouts
    probe_timeout_s: float
    max_connections: int
    headers: Headers
    tls: ssl.SSLContext | None = field(compare=False)
    tls_digest: str
    circuit: CircuitPolicy


class Watcher(Protocol):
    """Who is told about an engine: its pool."""

    def engine_changed(self, engine: Engine) -> None:
        """Up, down, draining, circuit: one of them is another now."""

    def slot_freed(self, engine: Engine) -> None:
        """An answer of this engine is over."""


class ConcurrencyLimit(Protocol):
    """How many answers an engine may have in flight; set and moved by admission."""

    @property
    def limit(self) -> int: ...

    def observe_load(self, running: int, waiting: int, own: int) -> None: ...


class Occupancy:
    """One request's slots on an engine. Calling it gives them back; calling it again does nothing."""

    __slots__ = ("_engine", "_is_trial", "_slots", "_uncached_chars")

    def __init__(self, engine: Engine, is_trial: bool, uncached_chars: int, slots: int) -> None:
        self._slots = slots
        self._engine: Engine | None = engine
        self._is_trial = is_trial
        self._uncached_chars = uncached_chars

    def prefill_done(self) -> None:
        """The answer has begun: its prompt no longer waits for its prefill."""
        if self._uncached_chars and self._engine is not None:
            self._engine.pending_prefill_chars -= self._uncached_chars
            self._uncached_chars = 0

    def __call__(self) -> None:
        engine = self._engine
        if engine is not None:
            self.prefill_done()
            self._engine = None
            engine.vacate(self._is_trial, self._slots)


class Engine:
    """One engine as the pool and the request path see it. Lives on the event loop."""

    def __init__(self, address: Address, connections: Connections, watcher: Watcher) -> None:
        self.url = address.url
        self.name = address.name
        self.address = address
        # The same in every replica of the gateway, for rendezvous hashing.
        self.seed = hash((crc32(address.name.encode()), len(address.name)))
        self.headers = connections.headers
        probe_s = connections.probe_timeout_s
        self.client = self._connect(connections, connections.timeouts, connections.max_connections)
        self._probe_client = self._connect(connections, Timeouts(probe_s, probe_s, probe_s), 8)
        self._watcher = watcher
        self._missed_probes = 0
        self._probes_since_lesson = 0
        self._drained_by: set[str] = set()
        self._reported = EngineLoad()
        self._load = LoadEstimate()
        self.circuit = Circuit(connections.circuit, self._changed)
        self.suspected = asyncio.Event()
        self.up = False
        self.has_plugin = False
        self.schemes: frozenset[str] = frozenset()
        self.sampling: dict[str, float] = {}
        """Sampling parameters of requests without them, where the engine announces some."""
        self.manifests: dict[str, str] = {}
        """Digest of the checkpoint behind a served name, where the engine announces it."""
        # Characters of prompts sent there whose answers have not begun.
        self.pending_prefill_chars = 0
        self.limit: ConcurrencyLimit | None = None
        self.cards: dict[str, dict[str, Any]] = {}
        self.lists_models = True
        self.seen = SeenPrefixes()

    @property
    def draining(self) -> bool:
        """Whether it takes no new requests because it is about to go; those in flight finish."""
        return bool(self._drained_by)

    @property
    def kv_usage(self) -> float:
        """Share of the KV cache in use, from 0 to 1, as of the last scrape."""
        return self._reported.kv_usage

    @property
    def in_flight(self) -> int:
        """This gateway's answers that the engine works on."""
        return self._load.own

    @property
    def load(self) -> float:
        """Answers that the engine works on or has waiting: this gateway's now, and others' as of the last readings."""
        return self._load.total

    @property
    def available(self) -> bool:
        """Whether it takes new requests, as far as is known; its circuit may be open."""
        return self.up and not self.draining

    def serves(self, model: str) -> bool:
        """Whether the engine has the model, as far as it tells: one that lists none judges by itself."""
        return model in self.cards or (self.up and not self.lists_models)

    def is_vllm(self, model: str) -> bool:
        """Whether it is a vLLM, as far as it tells: it gives token ids, takes them as a prompt, and salts its cache."""
        if self.has_plugin:
            return True
        card = self.cards.get(model)
        return card is not None and card.get("owned_by") == "vllm"

    def has_room(self) -> bool:
        """Whether admission would let one more answer run here; always, where it sets no limit."""
        return self.limit is None or self.in_flight < self.limit.limit

    def occupy(self, uncached_chars: int = 0, slots: int = 1) -> Occupancy:
        """Take a slot for each sequence of a request; call what is returned on every path, as often as you like.

        `uncached_chars`: characters of its prompt that the engine has to prefill; see `Occupancy.prefill_done`.
        """
        self._load.own += slots
        self.pending_prefill_chars += uncached_chars
        return Occupancy(self, self.circuit.begin(), uncached_chars, slots)

    def vacate(self, was_trial: bool, slots: int = 1) -> None:
        """An answer is over: use what `occupy` returned, which does this once."""
        self._load.own -= slots
        if was_trial:
            self.circuit.end_trial()
        self._watcher.slot_freed(self)

    def succeeded(self, ttft_s: float) -> None:
        """The engine began to answer after `ttft_s` seconds, be it by refusing a bad request."""
        self.circuit.succeeded()

    def refused(self, refusal: Refusal) -> None:
        """The engine answered with a status that is no answer: learn from it for the requests to come."""
        if refusal.rest_s:
            self.circuit.rest(refusal.rest_s)
        if refusal.is_engines_failure:
            self.failed(f"it answered with status {refusal.status}")
            return
        self.circuit.succeeded()
        if refusal.status == 404:
            # It may have another model than it had: asked at once, since only its list can be trusted. Clients can
            # have it say 404 too.
            self._probes_since_lesson = PROBES_PER_LESSON
            self.suspected.set()

    def failed(self, reason: str) -> None:
        """It could not be reached, broke off, was silent too long, or refused what another might answer."""
        before = self.circuit.state
        self.circuit.failed()
        if self.circuit.state != before:
            log.warning("engine's circuit is open", extra={"engine": self.name, "reason": reason})
        self.suspected.set()

    def drain(self, by: str, draining: bool = True) -> None:
        """Take no new requests, or take them again; `by` says for whom (discovery, an administrator)."""
        before = self.draining
        if draining:
            self._drained_by.add(by)
        else:
            self._drained_by.discard(by)
        if self.draining != before:
            log.info("engine drains" if self.draining else "engine drains no more", extra={"engine": self.name})
            self._changed()

    async def probe(self) -> None:
        """Ask for health, and from time to time for models and plugin."""
        must_be_sure = False
        try:
            healthy = await self._get(b"/health", tolerate_missing=True) is not None
            if healthy and (not self.up or self._probes_since_lesson >= PROBES_PER_LESSON):
                await self._learn()
            reason = "its health check failed"
        except UpstreamTimeout as error:
            healthy, reason, must_be_sure = False, str(error), True
        except (UpstreamError, msgspec.DecodeError) as error:
            healthy, reason = False, str(error)
        self._probes_since_lesson += 1
        if healthy:
            self._mark_up()
            return
        self._missed_probes += 1
        if not must_be_sure or self._missed_probes >= MISSED_PROBES:
            self.mark_down(reason)

    async def scrape(self) -> None:
        """Read the engine's load; where that fails the last one goes on to count."""
        own = self.in_flight
        try:
            metrics = await self._get(b"/metrics", tolerate_missing=True)
        except UpstreamError:
            return
        if metrics:
            self._note_load(parse_load(metrics), own)

    def mark_down(self, reason: str) -> None:
        """No new requests until a probe succeeds."""
        if self.up:
            self.up = False
            self._load.forget_others()
            log.warning("engine is down", extra={"engine": self.name, "reason": reason})
            self._changed()

    async def ask(self, target: bytes, body: bytes, limit: int) -> Reply:
        """POST JSON of the gateway's own, and read the first `limit` bytes of the answer. Raises UpstreamError."""
        return await self.client.ask(b"POST", target, (*self.headers, JSON_CONTENT), body, limit)

    async def tell(self, target: bytes, body: bytes) -> Reply:
        """The same for what is no question: learn anew what the engine serves."""
        reply = await self.ask(target, body, MOST_TOLD_BYTES)
        await self._learn()
        self._changed()
        return reply

    def close(self) -> None:
        """Close the idle connections; those in use close when their answer ends."""
        self.client.close()
        self._probe_client.close()

    def _connect(self, connections: Connections, timeouts: Timeouts, max_connections: int) -> UpstreamPool:
        return UpstreamPool(
            self.url,
            timeouts,
            max_connections,
            tls=connections.tls,
            server_name=self.address.server_name,
            peer="the engine",
        )

    def _mark_up(self) -> None:
        self._missed_probes = 0
        if self.up:
            return
        self.up = True
        # It may have been started anew: its cache is empty then, and what failed before says nothing.
        self.seen.clear()
        self.circuit.reset()
        log.info("engine is up", extra={"engine": self.name, "models": sorted(self.cards)})
        self._changed()

    def _changed(self) -> None:
        self._watcher.engine_changed(self)

    def _note_load(self, load: EngineLoad | None, own: int) -> None:
        """`own`: answers of this gateway in flight when the engine was asked."""
        if load is None:
            return
        self._reported = load
        self._load.heard(load.running + load.waiting, own)
        if self.limit is not None:
            self.limit.observe_load(load.running, load.waiting, own)
        self.seen.capacity = blocks_for(load.cache_tokens)

    async def _learn(self) -> None:
        models = await self._get(b"/v1/models", tolerate_missing=True)
        self.lists_models = models != b""
        cards = _decode_models(models or b"{}").data
        self.cards = {card["id"]: card for card in cards if isinstance(card.get("id"), str)}
        own = self.in_flight
        try:
            metrics = await self._get(b"/metrics", tolerate_missing=True) or b""
        except BodyTooLarge as error:
            log.warning("engine's metrics are not read", extra={"engine": self.name, "reason": str(error)})
            metrics = b""
        self.has_plugin = PLUGIN_METRIC in metrics
        self.schemes = parse_schemes(metrics)
        self.sampling = parse_sampling(metrics)
        self.manifests = parse_manifests(metrics)
        self._note_load(parse_load(metrics), own)
        self._probes_since_lesson = 0

    async def _get(self, target: bytes, tolerate_missing: bool = False) -> bytes | None:
        """The body of a 200 answer, b"" for a path the server does not have, None for any other answer.

        Raises:
            BodyTooLarge: nothing is learned from so much.
            UpstreamError: there is no answer.
        """
        reply = await self._probe_client.ask(b"GET", target, self.headers, limit=MOST_SHOWN_BYTES + 1)
        if len(reply.body) > MOST_SHOWN_BYTES:
            raise BodyTooLarge(f"{target.decode()} is larger than {MOST_SHOWN_BYTES} bytes")
        if reply.status == 200:
            return reply.body
        return b"" if tolerate_missing and reply.status in (404, 405, 501) else None
