"""Ports to listen on: free, or taken by our own programs."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

from serving.doctor.finding import Finding, error
from serving.engine.address import Address, require_free
from serving.engine.errors import PortTaken
from serving.settings import Settings

_WAIT_S = 2.0


def check_ports(settings: Settings) -> Iterator[Finding]:
    """The gateway's, and those of what `signet serve` starts beside it."""
    gateway = settings.gateway
    yield from _usable("gateway.port", Address(gateway.host, gateway.port), "/healthz", b"ok\n", tls=bool(gateway.tls))
    if gateway.finds_engines:
        return
    yield from _usable("engine.port", Address("127.0.0.1", settings.engine.port), "/health", b"")
    if settings.drift.enabled:
        drift = settings.drift
        yield from _usable("drift.port", Address(drift.host, drift.port), "/metrics", b"signet_drift_")


def _usable(name: str, address: Address, path: str, mark: bytes, *, tls: bool = False) -> Iterator[Finding]:
    """`mark`: what our own program's answer to `path` holds."""
    if not address.port:
        return
    try:
        require_free(address.host, address.port, name)
    except PortTaken as taken:
        if not tls and answers(address, path, mark):
            return  # it is running
        if tls and "in use" in str(taken):
            return  # who it is cannot be told without a client's certificate
        yield error(
            str(taken).partition(". ")[0],
            "the program that is to listen there does not start",
            f"stop the program that has the port (`ss -ltnp`), or set {name} to another one",
        )


def answers(address: Address, path: str, mark: bytes) -> bool:
    """Whether the program there is ours: a 200 for `path`, with `mark` in it."""
    connection = http.client.HTTPConnection(address.reachable_host, address.port, timeout=_WAIT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status == 200 and mark in response.read(65536)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
