"""Which counts may come, by the settings: those series are there with 0, so that an alert sees the first count."""

from __future__ import annotations

from collections.abc import Iterator

from monitoring.telemetry import GatewayMetrics
from serving.gateway.errors import GatewayError
from serving.settings import Settings


def expect_series(metrics: GatewayMetrics, settings: Settings) -> None:
    """Show what a gateway with these settings may count."""
    metrics.expect_errors(sorted(set(_codes(GatewayError))))
    guard = settings.guard
    for direction, actions in (("input", guard.input), ("output", guard.output)):
        metrics.expect_guard(actions.acting().items(), direction)
    for name, model in settings.gateway.models.items():
        if model.shadow is not None:
            metrics.expect_shadow(name, model.shadow.target)


def _codes(kind: type[GatewayError]) -> Iterator[str]:
    yield kind.default_code
    for subclass in kind.__subclasses__():
        yield from _codes(subclass)
