"""Which checkpoints an engine was started with: said on /metrics, where a gateway reads it for receipts.

`signet serve` and `signet engine` verify a checkpoint and pass its digest on in `--additional-config`, beside the
plugin's own section. An engine that was started otherwise announces nothing.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from serving.engine.announced import announce

CONFIG_SECTION = "signet_manifests"


def announce_manifests(vllm_config: Any, registry: CollectorRegistry) -> None:
    """Expose one series for each served name whose checkpoint was verified before the engine started."""
    additional = vllm_config.additional_config
    manifests = additional.get(CONFIG_SECTION) if isinstance(additional, dict) else None
    for model, digest in (manifests or {}).items():
        announce(model, digest, registry)
