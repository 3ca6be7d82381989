"""Builds the gateway from the settings and runs it until it is told to stop."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import uvicorn
from prometheus_client import CollectorRegistry

from monitoring.telemetry import GatewayMetrics, Tracing, configure_logging
from serving.gateway.app import GatewayApp
from serving.gateway.engines.pool import EnginePool
from serving.gateway.failover import Failover
from serving.gateway.pipeline import Pipeline
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
    tokens = frozenset[str]().union(*(control_tokens_of(folder) for folder in gateway.model_folders.values()))
    pipeline = Pipeline(
        settings=gateway,
        identity=identity,
        limiter=Limiter(),
        guard=Guard(settings.guard, tokens),
        keyring=keyring,
        pool=EnginePool(gateway, metrics),
        failover=Failover(gateway.failover),
        ledger=Ledger(settings.database_url, settings.ledger),
        prices=PriceList(settings.prices),
        metrics=metrics,
        tracing=Tracing.from_settings(settings.telemetry),
    )
    return GatewayApp(pipeline, registry, build_rest(identity, keyring, gateway.model_folders))


def run(settings: Settings, listener: socket.socket, on_listening: Callable[[], None] = lambda: None) -> None:
    """Serve on `listener` until SIGINT or SIGTERM; open answers get `drain_timeout_s` to finish."""
    output = configure_logging(settings.telemetry)
    app = build(settings)
    config = uvicorn.Config(
        app,
        lifespan="on",
        proxy_headers=False,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=round(settings.gateway.drain_timeout_s),
        backlog=4096,
    )
    on_listening()
    uvicorn.Server(config).run(sockets=[listener])
    output.close()
