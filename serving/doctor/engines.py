"""The engines that the settings name: reached, asked with their key, and serving what they are named for."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from serving.doctor.clock import check_clock
from serving.doctor.database import marks_by_default
from serving.doctor.finding import Finding, NotChecked, error, warning
from serving.gateway.engines.address import Address
from serving.gateway.engines.build import connections_from, sources_from, static_addresses
from serving.gateway.engines.discovery import Source
from serving.gateway.engines.engine import MOST_SHOWN_BYTES
from serving.gateway.engines.load import PLUGIN_METRIC, parse_manifests
from serving.gateway.settings import GatewaySettings
from serving.http.client import Timeouts, UpstreamError, UpstreamPool
from serving.http.heads import http_date
from serving.settings import Settings

_WAIT_S = 4.0
_NO_ANSWER = "requests that only it could answer get 503"


@dataclass(slots=True)
class Answers:
    """What one engine said. `models` is None where it lists none."""

    name: str
    unreachable: str = ""
    refuses_key: bool = False
    models: frozenset[str] | None = None
    has_plugin: bool = False
    manifests: dict[str, str] = field(default_factory=dict)
    clock: tuple[float, float, float] | None = None
    """The time it gave, and when it was asked and had answered; Unix seconds."""


def check_engines(settings: Settings) -> Iterator[Finding]:
    """Those of the gateway's settings; under `signet serve` its own, where `engine.port` says where that is."""
    gateway = settings.gateway
    if not gateway.finds_engines:
        if not settings.engine.port:
            raise NotChecked("`signet serve` chooses its engine's port; set engine.port to have it checked")
        gateway = gateway.model_copy(update={"engine_urls": [f"http://127.0.0.1:{settings.engine.port}"]})
    try:
        findings, answers = asyncio.run(_ask_all(gateway))
    except ValueError:
        return  # said of the settings
    if not settings.gateway.finds_engines and all(answer.unreachable for answer in answers):
        raise NotChecked("`signet serve` is not running")
    yield from findings
    for answer in answers:
        yield from _judge(answer)
    reached = [answer for answer in answers if not answer.unreachable and not answer.refuses_key]
    yield from judge_manifests({answer.name: answer.manifests for answer in reached})
    if reached and len(reached) == len(answers):
        yield from _names(settings, reached)
    if reached:
        yield from _marks(settings, reached)


def judge_manifests(announced: dict[str, dict[str, str]]) -> Iterator[Finding]:
    """Whether engines serve different checkpoints under one name; `announced`: name to digest, by engine."""
    engines_of: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for engine, manifests in announced.items():
        for model, digest in manifests.items():
            engines_of[model][digest].append(engine)
    for model, by_digest in engines_of.items():
        if len(by_digest) > 1:
            listed = "; ".join(f"{digest[:19]}: {', '.join(engines)}" for digest, engines in by_digest.items())
            yield error(
                f"engines serve {len(by_digest)} different checkpoints as {model!r} ({listed})",
                "one question has different answers by chance, and a stream that is continued may change its model",
                "let the rollout finish, or restart the engines that have the old one",
            )


async def _ask_all(gateway: GatewaySettings) -> tuple[list[Finding], list[Answers]]:
    """Raises ValueError: a setting cannot be used."""
    addresses = {address.name: address for address in static_addresses(gateway)}
    sources, connections = sources_from(gateway), connections_from(gateway)
    findings: list[Finding] = []
    for report in await asyncio.gather(*(_look(source) for source in sources)):
        findings += report.findings
        addresses |= {address.name: address for address in report.addresses}
    timeouts = Timeouts(_WAIT_S, _WAIT_S, _WAIT_S)
    answers = await asyncio.gather(
        *(_ask(address, timeouts, connections.tls, connections.headers) for address in addresses.values())
    )
    return findings, answers


class _OneReport:
    """The first report of a source."""

    def __init__(self, source: Source) -> None:
        self._label = source.label
        self.done = asyncio.Event()
        self.addresses: Sequence[Address] = ()
        self.findings: list[Finding] = []

    def found(self, addresses: Sequence[Address]) -> None:
        self.addresses = addresses
        if not addresses:
            self.absent()
        self.done.set()

    def absent(self) -> None:
        self._say("it has no address that is ready")

    def failed(self, reason: str) -> None:
        self._say(reason)

    def _say(self, reason: str) -> None:
        if not self.done.is_set():
            self.findings.append(
                error(
                    f"no engine is found by {self._label}: {reason}",
                    "the gateway answers 503 until it finds one",
                    "correct the name, start the engines, or look at what the name server says from here",
                )
            )
        self.done.set()


async def _look(source: Source) -> _OneReport:
    report = _OneReport(source)
    looking = asyncio.create_task(source.run(report))
    try:
        async with asyncio.timeout(_WAIT_S):
            await report.done.wait()
    except TimeoutError:
        report.failed(f"no answer within {_WAIT_S:g} s")
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
    return report


async def _ask(
    address: Address, timeouts: Timeouts, tls: ssl.SSLContext | None, headers: Iterable[tuple[bytes, bytes]]
) -> Answers:
    answers = Answers(address.name)
    client = UpstreamPool(address.url, timeouts, 4, tls=tls, server_name=address.server_name, peer="the engine")
    try:
        asked_at = time.time()
        response = await client.request(b"GET", b"/v1/models", headers)
        try:
            their_time = http_date(response.header(b"date").decode("latin-1"))
            body = await response.read(MOST_SHOWN_BYTES)
        finally:
            response.close()
        if their_time is not None:
            # The date has no fraction: it is as good as half a second later.
            answers.clock = (their_time + 0.5, asked_at, time.time())
        answers.refuses_key = response.status in (401, 403)
        if response.status == 200:
            answers.models = _model_names(body)
        elif response.status >= 500:
            answers.unreachable = f"it answers with status {response.status}"
        metrics = await client.ask(b"GET", b"/metrics", headers, limit=MOST_SHOWN_BYTES)
        answers.has_plugin = metrics.status == 200 and PLUGIN_METRIC in metrics.body
        answers.manifests = parse_manifests(metrics.body) if metrics.status == 200 else {}
    except UpstreamError as reason:
        answers.unreachable = str(reason)
    finally:
        client.close()
    return answers


class _Listed(msgspec.Struct):
    data: list[dict[str, object]] = []


def _model_names(body: bytes) -> frozenset[str] | None:
    try:
        listed = msgspec.json.decode(body, type=_Listed).data
    except msgspec.DecodeError:
        return None
    return frozenset(str(card["id"]) for card in listed if "id" in card)


def _judge(answers: Answers) -> Iterator[Finding]:
    if answers.unreachable:
        yield error(
            f"engine {answers.name} does not answer: {answers.unreachable}",
            _NO_ANSWER,
            "start it or look at its log; or correct its address, and what may be reached from here",
        )
    elif answers.refuses_key:
        yield error(
            f"engine {answers.name} refuses the gateway's key",
            "every request that is sent there fails with 502",
            "give both the same key: gateway.engine_api_key here, VLLM_API_KEY or `--api-key` there",
        )
    if answers.clock is not None:
        yield from check_clock(f"engine {answers.name}", *answers.clock)


def _names(settings: Settings, reached: Sequence[Answers]) -> Iterator[Finding]:
    """Whether what the settings call a model is served by anybody."""
    if any(answer.models is None for answer in reached):
        return
    served = frozenset[str]().union(*(answer.models or () for answer in reached))
    have = f"served are: {', '.join(sorted(served)) or 'none'}"
    for setting, model in _named_models(settings):
        # Live adapters are loaded by name when a gateway has them, and templates' names mean no model.
        if model not in served:
            yield error(
                f"{setting} means {model!r}, and no engine serves it; {have}",
                "requests for that name are answered with 503 or 404",
                "correct the name, or start an engine that serves it",
            )
    for model in settings.prices:
        if model != "default" and model not in served:
            yield warning(
                f"prices.{model}: no engine serves it; {have}",
                "what is served has the price of `default`, or none",
                "write the price under the name that the engine serves",
            )


def _named_models(settings: Settings) -> Iterator[tuple[str, str]]:
    for name, model in settings.gateway.models.items():
        yield f"gateway.models.{name}", model.target or name
        if model.canary is not None:
            yield f"gateway.models.{name}.canary", model.canary.target
        if model.shadow is not None:
            yield f"gateway.models.{name}.shadow", model.shadow.target
    for name in settings.gateway.model_folders:
        yield f"gateway.model_folders.{name}", name


def _marks(settings: Settings, reached: Sequence[Answers]) -> Iterator[Finding]:
    without = [answer.name for answer in reached if not answer.has_plugin]
    if without and marks_by_default(settings):
        yield warning(
            f"keys ask for marks, and these engines cannot mark: {', '.join(without)}",
            "their answers carry no mark and cannot be detected later",
            "start them with `signet engine` or the engine image, which load the plugin; "
            "or make keys with `--mark off`",
        )
