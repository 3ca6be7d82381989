"""From the settings to the sources and connections of a pool."""

from __future__ import annotations

from serving.gateway.engines.address import Address
from serving.gateway.engines.circuit import CircuitPolicy
from serving.gateway.engines.discovery import Source
from serving.gateway.engines.discovery.dns import DnsSource
from serving.gateway.engines.discovery.kubernetes import KubernetesSource
from serving.gateway.engines.engine import Connections
from serving.gateway.engines.tls import client_context
from serving.gateway.engines.upstream import Timeouts
from serving.gateway.settings import GatewaySettings


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
