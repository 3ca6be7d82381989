"""Tells on /metrics how this engine samples where a request does not say: a checkpoint's `generation_config.json` may
leave nothing to choose, and with that nothing that could carry a mark.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Gauge

METRIC = "signet_engine_default_sampling"
PARAMETERS = ("temperature", "top_k", "top_p", "min_p")


def announce_sampling(vllm_config: Any, registry: CollectorRegistry) -> None:
    """Expose the parameters that the engine's model sets for requests without them; nothing where it sets none."""
    given = vllm_config.model_config.get_diff_sampling_param()
    defaults = {name: given[name] for name in PARAMETERS if isinstance(given.get(name), int | float)}
    if not defaults:
        return
    gauge = Gauge(
        METRIC,
        "Sampling parameters of requests that do not set them, by the model's generation_config.json.",
        ["parameter"],
        registry=registry,
        multiprocess_mode="mostrecent",
    )
    for name, value in defaults.items():
        gauge.labels(parameter=name).set(value)
