"""How a gateway learns that an engine marks, and how the server's process learns of the keyring."""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from vllm.renderers.registry import RENDERER_REGISTRY
from vllm.v1.metrics.loggers import StatLoggerBase

from serving.engine.plugin import GreenProcessor, MarkAnnouncement, MarkProcessor, announcement, readiness
from serving.engine.plugin.announcement import METRIC
from serving.engine.rendering import register
from serving.provenance import Keyring

EngineConfig = Callable[..., Any]
SCHEMES = "gumbel,dual-gumbel,kgw,synthid,kgw-lefthash"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    registry = CollectorRegistry()
    monkeypatch.setattr(announcement, "REGISTRY", registry)
    return registry


def test_engine_with_a_keyring_exposes_its_schemes(engine_config: EngineConfig, registry: CollectorRegistry) -> None:
    MarkAnnouncement(engine_config())

    assert registry.get_sample_value("signet_engine_plugin_info", {"schemes": SCHEMES}) == 1


def test_a_scheme_whose_processor_is_not_installed_is_not_exposed(
    engine_config: EngineConfig, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "entry_points", lambda group: [entry_points(group=group)["signet_mark"]])

    MarkAnnouncement(engine_config())

    assert registry.get_sample_value(METRIC, {"schemes": "gumbel,dual-gumbel,synthid"}) == 1


def test_engine_that_cannot_mark_exposes_nothing(engine_config: EngineConfig, registry: CollectorRegistry) -> None:
    MarkAnnouncement(engine_config({}))

    assert list(registry.collect()) == []


def test_further_engines_of_one_server_add_no_second_series(
    engine_config: EngineConfig, registry: CollectorRegistry
) -> None:
    for index in range(3):
        MarkAnnouncement(vllm_config=engine_config(), engine_index=index)

    assert registry.get_sample_value("signet_engine_plugin_info", {"schemes": SCHEMES}) == 1


def test_the_servers_process_learns_of_the_keyring(
    engine_config: EngineConfig, registry: CollectorRegistry, ring: Keyring
) -> None:
    MarkAnnouncement(engine_config())

    assert MarkProcessor.ready.require().path == ring.path


def test_vllm_finds_the_entry_points() -> None:
    """All are needed: without the logger every request for a mark is refused, without `signet_green` none is kept."""
    processors = entry_points(group="vllm.logits_processors")
    loggers = entry_points(group="vllm.stat_logger_plugins")

    assert processors["signet_mark"].load() is MarkProcessor
    assert processors["signet_green"].load() is GreenProcessor
    assert loggers["signet_mark"].load() is MarkAnnouncement
    assert issubclass(MarkAnnouncement, StatLoggerBase)


def test_an_engine_whose_prompts_are_not_checked_says_so(
    engine_config: EngineConfig,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(RENDERER_REGISTRY, "renderers", {"hf": ("vllm.renderers.hf", "HfRenderer")})
    MarkAnnouncement(engine_config())
    assert "install Signet anew" in caplog.text
    caplog.clear()

    register()
    monkeypatch.setattr(announcement, "REGISTRY", CollectorRegistry())
    MarkAnnouncement(engine_config())

    assert "install Signet anew" not in caplog.text
