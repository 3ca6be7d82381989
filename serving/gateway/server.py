"""Builds the gateway from the settings and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
from collections.abc import Callable

import uvloop
from prometheus_client import CollectorRegistry

from monitoring.telemetry import GatewayMetrics, Tracing, configure_logging
from serving.gateway.admin import admin_routes
from serving.gateway.app import PROBE_PATHS, GatewayApp
from serving.gateway.engines.drains import Drains
from serving.gateway.engines.pool import EnginePool
from serving.gateway.failover import Failover
from serving.gateway.http.server import Server
from serving.gateway.pipeline import Pipeline
from serving.gateway.reserve import Reserver
from serving.gateway.rest import build_rest
from serving.gateway.settings import GatewaySettings
from serving.guard import Guard, control_tokens_of
from serving.identity import Identity, Limiter
from serving.ledger import Ledger, PriceList
from serving.provenance import Keyring
from serving.settings import Settings

log = logging.getLogger(__name__)


class PortTaken(Exception):
    """The address to listen on cannot be had; `str()` is one line for the user."""


def bind(settings: GatewaySettings) -> socket.socket:
    """Take the port before anything slow happens.

    Raises:
        PortTaken: another program has it, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"cannot listen on {settings.host}:{settings.port}: {(error.strerror or str(error)).lower()}. "
            "Stop the program that has the port, or choose another with --port."
        ) from None
    listener.set_inheritable(True)
    return listener


def build(settings: Settings) -> GatewayApp:
    """Put the gateway together. Opens the database and the keyring; touches no network.

    Raises:
        DatabaseError, IdentityError, KeyringError: with one line for the user.
    """
    gateway = settings.gateway
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    identity = Identity(settings.database_url, settings.identity)
    keyring = Keyring.open(settings.keyring_file, create=True)
    pool = EnginePool(gateway, metrics)
    drains = Drains(identity, pool)
    tokens = frozenset[str]().union(*(control_tokens_of(folder) for folder in gateway.model_folders.values()))
    limiter = Limiter.from_settings(
        settings.identity, settings.database_url, settings.home, gateway.workers, metrics.limits_degraded
    )
    prices = PriceList(settings.prices)
    pipeline = Pipeline(
        settings=gateway,
        identity=identity,
        limiter=limiter,
        reserver=Reserver(limiter, prices, pool),
        guard=Guard(settings.guard, tokens),
        keyring=keyring,
        pool=pool,
        drains=drains,
        failover=Failover(gateway.failover),
        ledger=Ledger(settings.database_url, settings.ledger, settings.spill_folder),
        prices=prices,
        metrics=metrics,
        tracing=Tracing.from_settings(settings.telemetry),
    )
    rest = build_rest(identity, keyring, gateway.model_folders, metrics.error)
    rest.include_router(admin_routes(identity, pool, drains, pipeline.ledger))
    return GatewayApp(pipeline, registry, rest)


def run(settings: Settings, listener: socket.socket, on_listening: Callable[[], None] = lambda: None) -> None:
    """Serve on `listener` until SIGINT or SIGTERM; open answers get `drain_timeout_s` to finish."""
    output = configure_logging(settings.telemetry)
    app = build(settings)
    gateway = settings.gateway
    server = Server(
        app,
        gateway.http,
        max_body_bytes=gateway.max_body_bytes,
        tls=gateway.tls,
        probe_paths=PROBE_PATHS,
        on_refused=app.refused,
    )
    _allow_open_files()
    on_listening()
    uvloop.run(_serve(server, listener, gateway.drain_timeout_s))
    output.close()


async def _serve(server: Server, listener: socket.socket, drain_timeout_s: float) -> None:
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told_to_stop.set)
    await server.start([listener])
    _collect_less_often()
    await told_to_stop.wait()
    await server.drain(drain_timeout_s)
    await server.stop()


def _allow_open_files() -> None:
    """A connection to a client and one to an engine for each open answer: take as many files as are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_less_often() -> None:
    """What was made so far stays for ever and need not be looked at again; requests leave no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
