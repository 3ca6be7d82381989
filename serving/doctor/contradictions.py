"""Settings that are fine one by one, and together are not."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry

from monitoring.telemetry import GatewayMetrics
from serving.doctor.finding import Finding, error, warning
from serving.gateway.engines.pool import EnginePool
from serving.gateway.routing.models import ModelTable
from serving.settings import Settings


def check_contradictions(settings: Settings) -> Iterator[Finding]:
    """The settings tree alone, without a look at anything that it names."""
    yield from _gateway_starts(settings)
    yield from _ports_differ(settings)
    yield from _without_effect(settings)
    if settings.gateway.admission.engine_priority and not settings.gateway.finds_engines:
        yield from _priorities(settings)


def _gateway_starts(settings: Settings) -> Iterator[Finding]:
    """What the gateway would refuse when it starts."""
    try:
        pool = EnginePool(settings.gateway, GatewayMetrics(CollectorRegistry()))
        ModelTable(settings.gateway.models, pool)
    except ValueError as reason:
        yield error(str(reason).rstrip("."), "the gateway does not start with it", "correct the setting that is named")


def _ports_differ(settings: Settings) -> Iterator[Finding]:
    ports = {"gateway.port": settings.gateway.port}
    if not settings.gateway.finds_engines:
        ports |= {
            "engine.port": settings.engine.port,
            "drift.port": settings.drift.port if settings.drift.enabled else 0,
        }
    for name, port in ports.items():
        for other, its_port in ports.items():
            if name < other and port and port == its_port:
                yield error(
                    f"{name} and {other} are both {port}",
                    "the second program that `signet serve` starts finds its port taken",
                    "give one of them another port, or 0 for any free one",
                )


def _without_effect(settings: Settings) -> Iterator[Finding]:
    gateway = settings.gateway
    circuit, admission = gateway.circuit, gateway.admission
    if circuit.backoff_s > circuit.max_backoff_s:
        yield warning(
            f"gateway.circuit.backoff_s is {circuit.backoff_s:g}, above max_backoff_s, {circuit.max_backoff_s:g}",
            "an engine that failed is asked again sooner than it says",
            "raise gateway.circuit.max_backoff_s",
        )
    if admission.max_queued_per_tenant > admission.max_queued:
        yield warning(
            f"gateway.admission.max_queued_per_tenant is {admission.max_queued_per_tenant}, above max_queued, "
            f"{admission.max_queued}",
            "one tenant can fill the whole queue, and the others are refused",
            "set max_queued_per_tenant below max_queued",
        )
    if gateway.max_body_bytes > gateway.http.max_buffered_bytes:
        yield error(
            f"gateway.max_body_bytes is {gateway.max_body_bytes}, above http.max_buffered_bytes, "
            f"{gateway.http.max_buffered_bytes}",
            "a body of that size never finds room and is answered with 503",
            "raise gateway.http.max_buffered_bytes",
        )
    if settings.ledger.commit_timeout_s < settings.ledger.busy_timeout_s:
        yield warning(
            f"ledger.commit_timeout_s is {settings.ledger.commit_timeout_s:g}, below busy_timeout_s, "
            f"{settings.ledger.busy_timeout_s:g}",
            "an answer is given up while its record still waits for its turn, and may be written all the same",
            "set ledger.commit_timeout_s above ledger.busy_timeout_s",
        )


def _priorities(settings: Settings) -> Iterator[Finding]:
    if not any("--scheduling-policy" in argument for argument in settings.engine.arguments):
        yield error(
            "gateway.admission.engine_priority is on, but the engine does not schedule by priority",
            "vLLM refuses every request that carries a priority",
            "add --scheduling-policy=priority to engine.arguments, or switch engine_priority off",
        )
