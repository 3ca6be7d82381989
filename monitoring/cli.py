"""`signet drift`: compare today's traffic with a checkpoint's reference."""

from __future__ import annotations

import json
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import click

from monitoring.drift.compare import DriftReport, compare
from monitoring.drift.window import LedgerReader, LedgerUnreadable
from monitoring.telemetry import TelemetrySettings, configure_logging
from monitoring.telemetry.settings import DriftSettings
from training.registry import Checkpoint, DriftReference, Registry, RegistryError

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class _Settings(Protocol):
    """What this command reads of the settings tree."""

    @property
    def home(self) -> Path: ...
    @property
    def database_url(self) -> str: ...
    @property
    def drift(self) -> DriftSettings: ...
    @property
    def telemetry(self) -> TelemetrySettings: ...


LoadSettings = Callable[[], _Settings]


class Duration(click.ParamType[float]):
    """`90s`, `30m`, `24h`, `7d`, or a date: how far back, in seconds from now."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        text = str(value)
        if match := re.fullmatch(r"(\d+)([smhd])", text):
            return float(match[1]) * _UNITS_S[match[2]]
        try:
            start = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither a span such as 90s, 30m, 24h, 7d nor a date such as 2026-11-24", param)
        start = start.astimezone() if start.tzinfo is None else start
        span = time.time() - start.timestamp()
        return span if span > 0 else self.fail(f"{text} is not in the past", param)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One checkpoint's reference and one ledger. The reference is looked up anew each time: aliases move."""

    registry: Registry
    reader: LedgerReader
    ref: str
    models: tuple[str, ...]
    span_s: float
    settings: DriftSettings

    def checkpoint(self) -> Checkpoint:
        return self.registry.resolve(self.ref)

    def reference(self) -> tuple[Checkpoint, DriftReference]:
        checkpoint = self.checkpoint()
        reference = checkpoint.manifest.drift_reference
        if reference is None:
            raise RegistryError(
                f"{checkpoint.ref} has no drift reference: record one with `signet drift record {checkpoint.ref}`"
            )
        return checkpoint, reference

    def served_as(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        return self.models or (checkpoint.manifest.name, checkpoint.ref)

    def look(self, now: float) -> DriftReport:
        checkpoint, reference = self.reference()
        window = self.reader.read(self.served_as(checkpoint), now - self.span_s, now)
        return compare(checkpoint.ref, reference, window, now - self.span_s, now, self.settings)


@contextmanager
def _comparison(
    load_settings: LoadSettings, ref: str | None, models: tuple[str, ...], since: float | None
) -> Iterator[_Comparison]:
    """The parts, from the settings; their errors end the command in one line."""
    settings = load_settings()
    registry = Registry(settings.home / "registry", settings.home / "keys")
    reader = LedgerReader(settings.database_url)
    span_s = since or settings.drift.window_s
    try:
        ref = ref or settings.drift.reference or _served(registry, reader, span_s)
        yield _Comparison(registry, reader, ref, models, span_s, settings.drift)
    except (RegistryError, LedgerUnreadable) as error:
        raise click.ClickException(str(error)) from error
    finally:
        reader.close()


def _served(registry: Registry, reader: LedgerReader, span_s: float) -> str:
    """The one checkpoint that answered in that span, by the names in the ledger."""
    now = time.time()
    served = [model for model in reader.models(now - span_s, now) if registry.has(model.partition("@")[0])]
    if len(served) == 1:
        return served[0]
    why = f"{', '.join(served[:5])} answered" if served else "no checkpoint of the registry answered"
    raise click.UsageError(f"{why} in that time: say which to compare with, --reference NAME[@VERSION]")


@click.group(invoke_without_command=True)
@click.option(
    "--reference",
    "ref",
    metavar="NAME[@VERSION]",
    help="Checkpoint whose reference to compare with. Default: the one that is served.",
)
@click.option("--since", type=Duration(), help="How far back: 30m, 24h, 7d or a date. Default: the drift window, 1h.")
@click.option("--model", "models", multiple=True, help="Model name in the ledger. Default: the checkpoint's name.")
@click.option("--watch", "watching", is_flag=True, help="Keep comparing; serve gauges to Prometheus.")
@click.option("--host", help="With --watch: address of /metrics.")
@click.option("--port", type=click.IntRange(0, 65535), help="With --watch: port of /metrics; 0 takes a free one.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def drift(
    ctx: click.Context,
    ref: str | None,
    since: float | None,
    models: tuple[str, ...],
    watching: bool,
    host: str | None,
    port: int | None,
    as_json: bool,
) -> None:
    """Compare the traffic of the last hours with the reference in a checkpoint's manifest.

    Example: signet drift --reference support-bot --since 24h --json
    """
    if ctx.invoked_subcommand is not None:
        return
    load_settings: LoadSettings = ctx.obj
    with _comparison(load_settings, ref, models, since) as comparison:
        if not watching:
            report = comparison.look(time.time())
            click.echo(_as_json(report) if as_json else _as_text(report))
            return
        settings = load_settings()
        chosen_port = settings.drift.port if port is None else port
        _watch(comparison, settings.telemetry, host or settings.drift.host, chosen_port)


@drift.command()
@click.argument("ref", metavar="NAME[@VERSION]")
@click.option("--since", type=Duration(), default="7d", show_default=True, help="How far back: 30m, 24h, 7d or a date.")
@click.option("--model", "models", multiple=True, help="Model name in the ledger. Default: the checkpoint's name.")
@click.pass_obj
def record(load_settings: LoadSettings, ref: str, since: float, models: tuple[str, ...]) -> None:
    """Make the traffic since then the checkpoint's reference; its manifest is signed again.

    Example: signet drift record support-bot@3 --since 7d
    """
    with _comparison(load_settings, ref, models, since) as comparison:
        checkpoint = comparison.checkpoint()
        served_as = comparison.served_as(checkpoint)
        now = time.time()
        window = comparison.reader.read(served_as, now - since, now)
        least = comparison.settings.min_samples
        if window.samples < least:
            raise click.ClickException(
                f"{window.samples} answers of {' or '.join(served_as)} since then are too few for a reference "
                f"(at least {least}): look further back with --since"
            )
        comparison.registry.set_drift_reference(checkpoint, window.as_reference())
    click.echo(f"{checkpoint.ref} is now compared with {window.samples} answers")


def _watch(comparison: _Comparison, telemetry: TelemetrySettings, host: str, port: int) -> None:
    from prometheus_client import CollectorRegistry, start_http_server

    from monitoring.drift.exporter import DriftGauges, watch

    # A checkpoint without a reference is waited for: one may be recorded while this runs.
    name = comparison.checkpoint().manifest.name
    registry = CollectorRegistry()
    gauges = DriftGauges(registry, name)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another with --port"
        ) from error
    log = configure_logging(telemetry)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    click.echo(f"drift of {name}: http://{host}:{server.server_port}/metrics", err=True)
    try:
        watch(comparison.look, gauges, comparison.settings.interval_s, stopping)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        log.stop()


def _as_json(report: DriftReport) -> str:
    return json.dumps(asdict(report) | {"drifted": report.drifted}, indent=2)


def _as_text(report: DriftReport) -> str:
    since = datetime.fromtimestamp(report.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [f"{report.reference}: {report.samples} answers since {since}, reference {report.reference_samples}"]
    if report.note:
        return f"{lines[0]}\nnot compared: {report.note}"
    lines.append(f"{'':18} {'reference':>10} {'now':>10} {'effect':>8} {'p-value':>9}")
    for drift in report.features:
        digits = 1 if drift.feature.endswith("tokens") else 3
        mark = "  drifted" if drift.drifted else ""
        p_value = "nan" if math.isnan(drift.p_value) else f"{drift.p_value:.2g}"
        lines.append(
            f"{drift.feature:18} {drift.reference:10.{digits}f} {drift.current:10.{digits}f} "
            f"{drift.effect:8.3f} {p_value:>9}{mark}"
        )
    return "\n".join(lines)
