"""How a gateway learns which checkpoint an engine serves under a name."""

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serving.engine.plugin import MarkAnnouncement, announcement
from serving.gateway.engines.load import parse_manifests

EngineConfig = Callable[..., Any]
MANIFESTS = {"bot": "sha256:" + "ab" * 32, "bot-base": "sha256:" + "cd" * 32}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    registry = CollectorRegistry()
    monkeypatch.setattr(announcement, "REGISTRY", registry)
    return registry


def test_the_gateway_reads_what_the_engine_announces(engine_config: EngineConfig, registry: CollectorRegistry) -> None:
    for index in range(2):
        MarkAnnouncement(engine_config(additional_config={"signet_manifests": MANIFESTS}), engine_index=index)

    assert parse_manifests(generate_latest(registry)) == MANIFESTS


@pytest.mark.parametrize("additional", [{}, {"signet_manifests": {}}, None])
def test_an_engine_that_was_told_nothing_announces_nothing(
    engine_config: EngineConfig, registry: CollectorRegistry, additional: Any
) -> None:
    MarkAnnouncement(engine_config(additional_config=additional))

    assert list(registry.collect()) == []
