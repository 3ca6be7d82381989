"""What an engine tells on /metrics: which checkpoint each served name is, so that a gateway can say it in an answer's
receipt, and how it samples where a request does not say.

`signet serve` and `signet engine` verify a checkpoint and pass its digest on in `--additional-config`, beside the
plugin's own section. An engine that was started otherwise announces no checkpoint.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Gauge

CONFIG_SECTION = "signet_manifests"
METRIC = "signet_engine_manifest_info"
SAMPLING_METRIC = "signet_engine_default_sampling"
PARAMETERS = ("temperature", "top_k", "top_p", "min_p")
_gauges: WeakKeyDictionary[CollectorRegistry, Gauge] = WeakKeyDictionary()
_digests: WeakKeyDictionary[CollectorRegistry, dict[str, str]] = WeakKeyDictionary()


def announce(model: str, digest: str, registry: CollectorRegistry) -> None:
    """Say that the model of this name is the checkpoint of this digest, and no other."""
    withdraw(model, registry)
    if registry not in _gauges:
        _gauges[registry] = Gauge(
            METRIC,
            "The checkpoint that this engine serves under a name, by the digest of its signed manifest.",
            ["model", "manifest"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
    _gauges[registry].labels(model=model, manifest=digest).set(1)
    _digests.setdefault(registry, {})[model] = digest


def withdraw(model: str, registry: CollectorRegistry) -> None:
    """Say no longer what the model of this name is."""
    digest = _digests.get(registry, {}).pop(model, None)
    if digest is not None:
        _gauges[registry].remove(model, digest)


def announce_manifests(vllm_config: Any, registry: CollectorRegistry) -> None:
    """Expose one series for each served name whose checkpoint was verified before the engine started."""
    additional = vllm_config.additional_config
    manifests = additional.get(CONFIG_SECTION) if isinstance(additional, dict) else None
    for model, digest in (manifests or {}).items():
        announce(model, digest, registry)


def announce_sampling(vllm_config: Any, registry: CollectorRegistry) -> None:
    """Expose the parameters that the engine's model sets for requests without them; nothing where it sets none."""
    given = vllm_config.model_config.get_diff_sampling_param()
    defaults = {name: given[name] for name in PARAMETERS if isinstance(given.get(name), int | float)}
    if not defaults:
        return
    gauge = Gauge(
        SAMPLING_METRIC,
        "Sampling parameters of requests that do not set them, by the model's generation_config.json.",
        ["parameter"],
        registry=registry,
        multiprocess_mode="mostrecent",
    )
    for name, value in defaults.items():
        gauge.labels(parameter=name).set(value)
