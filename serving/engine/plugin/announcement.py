"""Brings the plugin into the API server: vLLM loads it through the entry point group `vllm.stat_logger_plugins`.

vLLM builds stat loggers in each server process, before its first request and with the engine's configuration. That
makes this the published place to learn where the keyring is, which `validate_params` must know, and to
announce on /metrics that the engine marks. It records no statistics.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY, CollectorRegistry, Gauge
from vllm.v1.metrics.loggers import StatLoggerBase

from serving.engine import rendering
from serving.engine.announced import announce_manifests, announce_sampling
from serving.engine.plugin.processor import MarkProcessor
from serving.engine.plugin.readiness import readiness

if TYPE_CHECKING:
    from vllm.config import VllmConfig

log = logging.getLogger(__name__)

METRIC = "signet_engine_plugin_info"


class MarkAnnouncement(StatLoggerBase):  # type: ignore[misc]
    """Tells the server's process, and whoever scrapes it, whether this engine marks."""

    def __init__(self, vllm_config: VllmConfig, engine_index: int = 0) -> None:
        MarkProcessor.ready = readiness(vllm_config)
        if MarkProcessor.ready.schemes and engine_index == 0:
            announce(MarkProcessor.ready.schemes, REGISTRY)
        if engine_index == 0:
            announce_manifests(vllm_config, REGISTRY)
            announce_sampling(vllm_config, REGISTRY)
            if not rendering.is_registered():
                log.warning("vLLM did not load Signet's renderer, so no prompt is checked: install Signet anew")

    def record(self, *_: Any, **__: Any) -> None:
        """Nothing is recorded."""

    def log_engine_initialized(self) -> None:
        """Nothing is logged."""


def announce(schemes: Sequence[str], registry: CollectorRegistry) -> None:
    """Expose the schemes this engine marks with; an engine that cannot mark exposes nothing."""
    gauge = Gauge(
        METRIC,
        "Signet's plugin runs in this engine and can mark answers with these schemes.",
        ["schemes"],
        registry=registry,
        multiprocess_mode="mostrecent",  # under several server processes: one series, not one a process
    )
    gauge.labels(schemes=",".join(schemes)).set(1)
