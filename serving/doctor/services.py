"""Servers of others that the gateway calls: the token issuer, the collector of traces, where anchors go."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from serving.doctor.finding import Finding, error, warning
from serving.identity.jwks import KeySet, KeysUnavailable
from serving.settings import Settings

_WAIT_S = 3.0


def check_services(settings: Settings) -> Iterator[Finding]:
    """Those that the settings name."""
    yield from _issuer(settings)
    for name, url, lost in (
        ("telemetry.otlp_endpoint", settings.telemetry.otlp_endpoint, "traces are lost"),
        ("ledger.anchors.url", _secret(settings), "anchors are not kept elsewhere"),
        ("guard.classifiers.perspective.url", _perspective(settings), "it never answers"),
    ):
        if url and (reason := _unreachable(url)):
            yield warning(
                f"{name}: {urlsplit(url).hostname} cannot be reached: {reason}",
                lost,
                f"start the server, or correct {name}",
            )


def _issuer(settings: Settings) -> Iterator[Finding]:
    jwt = settings.identity.jwt
    if jwt.issuer is None:
        return
    try:
        keys = KeySet(jwt)
    except KeysUnavailable:
        return  # said of the files
    if not keys.is_loaded:
        asyncio.run(keys.refetch())
    if not keys.is_loaded:
        yield error(
            f"the keys of the token issuer {jwt.issuer} cannot be had",
            "no token of it is let in",
            f"open {jwt.jwks or jwt.issuer} from here; correct identity.jwt, and what may be reached",
        )


def _secret(settings: Settings) -> str | None:
    url = settings.ledger.anchors.url
    return url.get_secret_value() if url is not None else None


def _perspective(settings: Settings) -> str | None:
    perspective = settings.guard.classifiers.perspective
    return perspective.url if perspective.key is not None else None


def _unreachable(url: str) -> str:
    """Why no connection can be had; empty: one can."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=_WAIT_S).close()
    except (OSError, ValueError) as failure:
        return getattr(failure, "strerror", None) or type(failure).__name__
    return ""
