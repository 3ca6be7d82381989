"""Tells on /metrics which checkpoint each served name is, so that a gateway can say it in an answer's receipt."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Gauge

METRIC = "signet_engine_manifest_info"

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
