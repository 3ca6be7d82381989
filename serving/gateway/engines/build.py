"""From the settings to the sources and connections of a pool."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

from serving.gateway.engines.address import Address
from serving.gateway.engines.circuit import CircuitPolicy
from serving.gateway.engines.discovery import Source
from serving.gateway.engines.discovery.dns import DnsSource
from serving.gateway.engines.discovery.kubernetes import KubernetesSource
from serving.gateway.engines.engine import Connections
from serving.gateway.settings import GatewaySettings
from serving.gateway.settings.engines import EngineTlsSettings
from serving.http.client import Timeouts


def static_addresses(settings: GatewaySettings) -> list[Address]:
    """The engines that the settings list.

    Raises:
        ValueError: a URL cannot be used; with one line for the user.
    """
    return [Address.from_url(url) for url in settings.engine_urls]


def sources_from(settings: GatewaySettings) -> list[Source]:
    """All places to find engines that the settings name.

    Raises:
        ValueError: a URL cannot be used; with one line for the user.
    """
    sources: list[Source] = [DnsSource(url, settings.engine_dns_interval_s) for url in settings.engine_dns]
    sources += [KubernetesSource(service, settings.kubeconfig) for service in settings.engine_services]
    return sources


def connections_from(settings: GatewaySettings) -> Connections:
    """How the engines are reached.

    Raises:
        ValueError: a certificate cannot be used; with one line for the user.
    """
    context, digest = client_context(settings.engine_tls)
    key = settings.engine_api_key
    return Connections(
        timeouts=Timeouts(settings.connect_timeout_s, settings.first_byte_timeout_s, settings.idle_timeout_s),
        probe_timeout_s=settings.probe_timeout_s,
        max_connections=settings.max_connections_per_engine,
        headers=((b"authorization", b"Bearer " + key.get_secret_value().encode()),) if key else (),
        tls=context,
        tls_digest=digest,
        circuit=CircuitPolicy(**settings.circuit.model_dump()),
    )


def client_context(settings: EngineTlsSettings) -> tuple[ssl.SSLContext, str]:
    """The TLS context for all engines, with a certificate of our own where they ask for one (mTLS).

    Beside it a digest of the files it was made from: a changed one means a new context.

    Raises:
        ValueError: a file cannot be read or is not what it should be; with one line for the user.
    """
    files = [path for path in (settings.ca, settings.certificate, settings.key) if path is not None]
    digest = hashlib.sha256(b"".join(_read(path) for path in files)).hexdigest() if files else ""
    try:
        context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
    except ssl.SSLError:
        raise ValueError(f"gateway.engine_tls.ca: {settings.ca} holds no certificates in PEM format.") from None
    if settings.certificate is not None:
        try:
            context.load_cert_chain(settings.certificate, settings.key)
        except ssl.SSLError:
            raise ValueError(
                f"gateway.engine_tls: {settings.certificate} and {settings.key or 'itself'} are not a certificate "
                "and its key in PEM format, without a passphrase."
            ) from None
    return context, digest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"gateway.engine_tls: cannot read {path}: {error.strerror}.") from None
