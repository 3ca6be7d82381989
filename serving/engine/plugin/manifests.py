"""Tells on /metrics which checkpoint each served name is, so that a gateway can say it in an answer's receipt.

`signet serve` and `signet engine` verify a checkpoint and pass its digest on in `--additional-config`, beside the
plugin's own section. An engine that was started otherwise announces nothing.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Gauge

CONFIG_SECTION = "signet_manifests"
METRIC = "signet_engine_manifest_info"


def announce_manifests(vllm_config: Any, registry: CollectorRegistry) -> None:
    """Expose one series for each served name whose checkpoint was verified before the engine started."""
    additional = vllm_config.additional_config
    manifests = additional.get(CONFIG_SECTION) if isinstance(additional, dict) else None
    if not manifests:
        return
    gauge = Gauge(
        METRIC,
        "The checkpoint that this engine serves under a name, by the digest of its signed manifest.",
        ["model", "manifest"],
        registry=registry,
        multiprocess_mode="mostrecent",
    )
    for model, digest in manifests.items():
        gauge.labels(model=model, manifest=digest).set(1)
