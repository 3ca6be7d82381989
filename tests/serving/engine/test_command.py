"""The command line and environment that vLLM is started with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.engine.address import Address
from serving.engine.command import engine_command, engine_environment, live_adapters
from serving.engine.errors import ModelRefused
from serving.engine.resolve import ModelSource
from serving.engine.settings import EngineSettings
from serving.settings import Settings
from training.registry import ManifestDraft, Registry

ADDRESS = Address("127.0.0.1", 8100)
KEYRING = Path("/state/keyring.json")


@pytest.fixture
def source(tmp_path: Path) -> ModelSource:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 2048}))
    return ModelSource(tmp_path, "bot")


def command(source: ModelSource, traces: str | None = None, **settings: object) -> list[str]:
    return engine_command(source, ADDRESS, EngineSettings(device="cpu", **settings), KEYRING, traces)


def value(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def test_names_model_address_and_keyring(source: ModelSource):
    arguments = command(source)

    assert arguments[1:4] == ["-P", "-m", "serving.engine.server"]
    assert value(arguments, "--model") == str(source.path)
    assert value(arguments, "--served-model-name") == "bot"
    assert (value(arguments, "--host"), value(arguments, "--port")) == ("127.0.0.1", "8100")
    assert json.loads(value(arguments, "--additional-config")) == {"signet": {"keyring": str(KEYRING)}}


def test_the_plugin_is_told_which_checkpoint_was_verified(tmp_path: Path):
    registry = Registry(tmp_path / "registry", tmp_path / "keys")
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    checkpoint = registry.register(folder, "bot", ManifestDraft(kind="base"))

    told = json.loads(value(command(ModelSource(checkpoint.path, "bot", checkpoint)), "--additional-config"))

    assert told["signet_manifests"] == {"bot": checkpoint.digest}


@pytest.mark.parametrize(("wanted", "length"), [(1024, "1024"), (4096, "2048"), (None, "2048")])
def test_length_is_what_is_set_but_never_more_than_the_model_can(source: ModelSource, wanted: int | None, length: str):
    assert value(command(source, max_model_len=wanted), "--max-model-len") == length


def test_eager_on_a_cpu_and_compiled_on_a_gpu_unless_set(source: ModelSource):
    def is_eager(**settings: object) -> bool:
        return "--enforce-eager" in engine_command(source, ADDRESS, EngineSettings(**settings), KEYRING)

    assert is_eager(device="cpu")
    assert not is_eager(device="gpu")
    assert not is_eager(device="cpu", eager=False)
    assert is_eager(device="gpu", eager=True)


def test_tools_follow_the_parser(source: ModelSource):
    assert value(command(source), "--tool-call-parser") == "hermes"
    assert "--enable-auto-tool-choice" not in command(source, tool_call_parser="")


def test_a_pooling_engine_has_no_tools_and_keeps_to_the_sentence_limit(source: ModelSource):
    (source.path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 256}))
    arguments = command(source, runner="pooling")

    assert value(arguments, "--runner") == "pooling"
    assert value(arguments, "--max-model-len") == "256"
    assert "--enable-auto-tool-choice" not in arguments
    assert "--runner" not in command(source)


def test_traces_go_to_the_collector_over_http(source: ModelSource):
    endpoint = "http://collector:4318/v1/traces"

    assert value(command(source, endpoint), "--otlp-traces-endpoint") == endpoint
    assert "--otlp-traces-endpoint" not in command(source)
    environment = engine_environment(EngineSettings(device="cpu"), {}, endpoint)
    assert environment["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"


def test_further_arguments_come_last_so_that_they_win(source: ModelSource):
    assert command(source, arguments=["--seed", "7"])[-2:] == ["--seed", "7"]


def test_adapter_is_served_under_its_name_on_top_of_its_base(source: ModelSource, tmp_path: Path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 12}))

    arguments = command(ModelSource(source.path, "tuned", adapter=adapter))

    assert value(arguments, "--lora-modules") == f"tuned={adapter}"
    assert value(arguments, "--max-lora-rank") == "16"
    assert value(arguments, "--served-model-name") == "tuned-base"


def test_live_adapters_find_room_and_the_registry(source: ModelSource, tmp_path: Path):
    arguments = command(source, live_adapters=4, max_lora_rank=24)
    assert (value(arguments, "--max-loras"), value(arguments, "--max-lora-rank")) == ("4", "32")
    assert "--enable-lora" not in command(source)

    registry = Registry(tmp_path / "registry", tmp_path / "keys")
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    checkpoint = registry.register(folder, "bot", ManifestDraft(kind="base"))
    settings = Settings(home=tmp_path, engine={"live_adapters": 1, "device": "cpu"})
    live = live_adapters(ModelSource(checkpoint.path, "bot", checkpoint), settings)
    environment = engine_environment(settings.engine, {}, live=live)
    assert environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert json.loads(environment["SIGNET_LIVE_ADAPTERS"])["bases"] == [checkpoint.digest]
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in engine_environment(settings.engine, {})
    with pytest.raises(ModelRefused, match="bot has no verified manifest"):
        live_adapters(source, settings)


def test_environment_is_offline_silent_and_without_our_secrets():
    inherited = {"PATH": "/bin", "SIGNET_DATABASE__URL": "postgresql://user:secret@host/db"}

    environment = engine_environment(EngineSettings(device="cpu", kv_cache_gb=3), inherited)

    assert environment["PATH"] == "/bin"
    assert not any(name.startswith("SIGNET_") for name in environment)
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "3"


def test_engine_is_told_the_key_that_it_is_to_ask_for():
    settings = EngineSettings(device="cpu")

    assert engine_environment(settings, {}, api_key="k-1")["VLLM_API_KEY"] == "k-1"
    assert "VLLM_API_KEY" not in engine_environment(settings, {})
    open_to_all = settings.model_copy(update={"environment": {"VLLM_API_KEY": ""}})
    assert engine_environment(open_to_all, {}, api_key="k-1")["VLLM_API_KEY"] == ""


def test_settings_decide_over_the_inherited_environment():
    settings = EngineSettings(device="gpu", environment={"VLLM_LOGGING_LEVEL": "DEBUG"})

    environment = engine_environment(settings, {"VLLM_LOGGING_LEVEL": "INFO"})

    assert environment["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8100"),
        ("0.0.0.0", "http://127.0.0.1:8100"),
        ("::", "http://[::1]:8100"),
        ("node", "http://node:8100"),
    ],
)
def test_url_is_one_that_can_be_connected_to(host: str, url: str):
    assert Address(host, 8100).url == url
