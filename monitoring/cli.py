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
from typing import Any, Protocol

import click

from monitoring.drift.compare import DriftReport, compare
from monitoring.drift.recorded import reference_finder, reference_of, sketch_answers
from monitoring.drift.standing import Standing, standing
from monitoring.drift.watched import Watched
from monitoring.drift.window import LedgerReader, LedgerUnreadable
from monitoring.drift.worker import DriftWorker, UnusableState, read_state, worker_file
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
@click.option("--watch", "watching", is_flag=True, help="Watch all models that answer; serve gauges to Prometheus.")
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
    if watching:
        settings = load_settings()
        chosen_port = settings.drift.port if port is None else port
        _watch(settings, ref or settings.drift.reference, models, host or settings.drift.host, chosen_port)
        return
    with _comparison(load_settings, ref, models, since) as comparison:
        report = comparison.look(time.time())
    click.echo(_as_json(report) if as_json else _as_text(report))


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
        sketches = sketch_answers(comparison.reader, served_as, now - since, now)
        comparison.registry.set_drift_reference(checkpoint, reference_of(window, sketches))
    click.echo(f"{checkpoint.ref} is now compared with {window.samples} answers")


@drift.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def status(load_settings: LoadSettings, as_json: bool) -> None:
    """Show what the worker knows: which feature of which model has changed, since when, how sure that is.

    Example: signet drift status --json
    """
    settings = load_settings()
    try:
        state = read_state(worker_file(settings.home))
        if state is None:
            raise click.ClickException("no drift worker has run yet: start one with `signet drift --watch`")
        watched = [Watched.from_state(own, settings.drift) for own in state["watched"]]
    except UnusableState as error:
        raise click.ClickException(str(error)) from error
    except (KeyError, ValueError, TypeError) as error:
        raise click.ClickException("the worker's state is of another version of Signet: restart the worker") from error
    now = time.time()
    standings = [standing(own, now, settings.drift) for own in watched]
    if as_json:
        click.echo(json.dumps([_plain(asdict(own)) | {"drifted": own.drifted} for own in standings], indent=2))
    else:
        click.echo("\n".join(map(_standing_as_text, standings)) or "no answers yet")


def _watch(settings: _Settings, ref: str | None, models: tuple[str, ...], host: str, port: int) -> None:
    from prometheus_client import CollectorRegistry, start_http_server

    from monitoring.drift.exporter import DriftGauges, watch

    registry = Registry(settings.home / "registry", settings.home / "keys")
    reader = LedgerReader(settings.database_url)
    try:
        checkpoint = registry.resolve(ref) if ref else None
        served_as = models or ((checkpoint.manifest.name, checkpoint.ref) if checkpoint else ())
        find = reference_finder(registry, ref, served_as)
        worker = DriftWorker(reader, find, settings.drift, worker_file(settings.home), time.time())
    except (RegistryError, UnusableState) as error:
        raise click.ClickException(str(error)) from error
    for model in served_as[:1]:
        worker.expect(model)
    metrics = CollectorRegistry()
    gauges = DriftGauges(metrics)
    gauges.show([standing(own, 0.0, settings.drift) for own in worker.watched.values()], 0.0)
    try:
        server, thread = start_http_server(port, host, metrics)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another with --port"
        ) from error
    log = configure_logging(settings.telemetry)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    click.echo(f"drift of all models: http://{host}:{server.server_port}/metrics", err=True)
    try:
        watch(worker, gauges, settings.drift, stopping)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        log.stop()
        reader.close()


def _as_json(report: DriftReport) -> str:
    return json.dumps(_plain(asdict(report)) | {"drifted": report.drifted}, indent=2)


def _plain(value: Any) -> Any:
    """With null for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _plain(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _standing_as_text(own: Standing) -> str:
    version = f" {own.version[:19]}" if own.version else ""
    lines = [f"{own.model}{version}: {own.samples} answers in the window, reference: {own.reference}"]
    if own.reference == "collecting":
        return f"{lines[0]}, {own.reference_samples} answers so far"
    lines.append(f"{'':20} {'reference':>10} {'now':>10} {'evidence':>10}")
    for feature in own.features:
        if feature.drifted is None:
            continue
        since = datetime.fromtimestamp(feature.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
        said = f"  {feature.what} since {since}" if feature.drifted else ""
        lines.append(
            f"{feature.feature:20} {feature.reference:10.3f} {feature.current:10.3f} "
            f"{feature.evidence_s / _UNITS_S['d']:8.3g} d{said}"
        )
    return "\n".join(lines)


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
