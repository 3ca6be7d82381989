"""What a gateway learns of an engine: marks, checkpoints, sampling; and how its process learns of the keyring."""

from collections.abc import Callable
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from vllm.renderers.registry import RENDERER_REGISTRY
from vllm.v1.metrics.loggers import StatLoggerBase

from serving.engine.announced import announce_sampling
from serving.engine.plugin import GreenProcessor, MarkAnnouncement, MarkProcessor, announcement, readiness
from serving.engine.plugin.announcement import METRIC
from serving.engine.rendering import register
from serving.gateway.engines.load import parse_manifests, parse_sampling
from serving.provenance import Keyring

EngineConfig = Callable[..., Any]
SCHEMES = "gumbel,dual-gumbel,kgw,synthid,kgw-lefthash"
MANIFESTS = {"bot": "sha256:" + "ab" * 32, "bot-base": "sha256:" + "cd" * 32}


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
