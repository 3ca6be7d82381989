"""How a gateway learns that a model is greedy by its own files."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serving.engine.plugin import MarkAnnouncement, announcement
from serving.engine.plugin.sampling import announce_sampling
from serving.gateway.engines.load import parse_sampling


@pytest.mark.parametrize(
    ("generation_config", "told"),
    [
        ({"temperature": 0.0, "top_k": 1, "max_tokens": 7}, {"temperature": 0.0, "top_k": 1.0}),
        ({"temperature": 0.2, "top_p": 0.9, "min_p": None}, {"temperature": 0.2, "top_p": 0.9}),
        ({"max_tokens": 7, "temperature": "0"}, {}),
        ({}, {}),
    ],
)
def test_a_gateway_reads_what_an_engine_tells(generation_config: dict[str, Any], told: dict[str, float]) -> None:
    registry = CollectorRegistry()
    model = SimpleNamespace(get_diff_sampling_param=lambda: generation_config)

    announce_sampling(SimpleNamespace(model_config=model), registry)

    assert parse_sampling(generate_latest(registry)) == told


def test_an_engine_tells_it_at_its_start(engine_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    monkeypatch.setattr(announcement, "REGISTRY", registry)
    config = engine_config()
    config.model_config.get_diff_sampling_param = lambda: {"top_k": 1}

    MarkAnnouncement(config)

    assert parse_sampling(generate_latest(registry)) == {"top_k": 1.0}
