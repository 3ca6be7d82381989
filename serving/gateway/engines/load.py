"""How busy an engine is, from its own `/metrics`, in vLLM's names (Prometheus text format)."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

# Exposed by an engine that runs our plugin.
PLUGIN_METRIC = b"signet_engine_plugin_info"
_SCHEMES = re.compile(rb"^" + PLUGIN_METRIC + rb'\{[^}\n]*schemes="([^"\\\n]*)"', re.MULTILINE)
_SAMPLING = re.compile(
    rb'^signet_engine_default_sampling\{[^}\n]*parameter="(temperature|top_k|top_p|min_p)"[^}\n]*\} ([0-9.eE+-]+)',
    re.MULTILINE,
)
# Which checkpoint each served name is, by its digest; exposed by an engine that Signet started on verified ones.
_MANIFEST = re.compile(rb"^signet_engine_manifest_info\{([^}\n]*)\}", re.MULTILINE)
_MANIFEST_LABEL = re.compile(r'(model|manifest)="([^"\\]*)"')
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# One series an engine core: with data parallelism there are several.
_SERIES = re.compile(
    rb"^vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc)(?:\{[^}\n]*\})? ([0-9.eE+-]+)",
    re.MULTILINE,
)
_CACHE = re.compile(rb"^vllm:cache_config_info\{([^}\n]*)\}", re.MULTILINE)
_CACHE_LABEL = re.compile(rb'(block_size|num_gpu_blocks)="(\d+)"')


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Requests running and waiting over all cores of an engine, and the fullest core's share of KV cache in use.

    `cache_tokens`: room of the KV cache, None where the engine does not say.
    """

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    cache_tokens: int | None = None


def parse_schemes(metrics: bytes) -> frozenset[str]:
    """The watermark schemes that an engine with our plugin marks with; several engines of one server agree."""
    match = _SCHEMES.search(metrics)
    return frozenset(match[1].decode().split(",")) if match else frozenset()


def parse_sampling(metrics: bytes) -> dict[str, float]:
    """How an engine with our plugin samples where a request does not say, as far as its model's files set it."""
    values = {}
    for name, value in _SAMPLING.findall(metrics):
        with suppress(ValueError):
            values[name.decode()] = float(value)
    return values


def parse_load(metrics: bytes) -> EngineLoad | None:
    """Read an engine's metrics; None when they are not vLLM's."""
    values: dict[bytes, list[float]] = {}
    for name, value in _SERIES.findall(metrics):
        values.setdefault(name, []).append(float(value))
    if not values:
        return None
    caches = [dict(_CACHE_LABEL.findall(labels)) for labels in _CACHE.findall(metrics)]
    room = sum(int(cache.get(b"block_size", 0)) * int(cache.get(b"num_gpu_blocks", 0)) for cache in caches)
    return EngineLoad(
        running=int(sum(values.get(b"num_requests_running", ()))),
        waiting=int(sum(values.get(b"num_requests_waiting", ()))),
        kv_usage=max(values.get(b"kv_cache_usage_perc", (0.0,))),
        cache_tokens=room or None,
    )


def parse_manifests(metrics: bytes) -> dict[str, str]:
    """Digest of the checkpoint by the name that it is served as; empty where the engine announces none."""
    announced = [
        dict(_MANIFEST_LABEL.findall(labels.decode(errors="replace"))) for labels in _MANIFEST.findall(metrics)
    ]
    return {
        labels["model"]: labels["manifest"]
        for labels in announced
        if "model" in labels and _DIGEST.fullmatch(labels.get("manifest", ""))
    }


# How far one reading moves the estimate of what others have sent.
_SMOOTHING = 0.3


class LoadEstimate:
    """Answers that an engine works on: this gateway's own as of now, and others' from what the engine last said.

    Others' are smoothed: replicas that all saw the same idle engine two seconds ago would otherwise all run to it
    until the next reading (M. Mitzenmacher, "How Useful Is Old Information?", 2000).
    """

    __slots__ = ("_others", "own")

    def __init__(self) -> None:
        self.own = 0
        self._others: float | None = None

    @property
    def total(self) -> float:
        return self.own + (self._others or 0.0)

    def heard(self, total: int, own: int) -> None:
        """The engine said that it has `total` answers, when `own` of them were this gateway's."""
        others = max(0, total - own)
        self._others = others if self._others is None else self._others + _SMOOTHING * (others - self._others)

    def forget_others(self) -> None:
        """The engine is down: what it said says nothing."""
        self._others = None
