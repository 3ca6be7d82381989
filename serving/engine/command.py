"""vLLM's command line and environment, from the settings. Everything that depends on vLLM's options is here."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.engine.address import Address
from serving.engine.errors import ModelRefused
from serving.engine.gate import VARIABLE, LiveAdapters
from serving.engine.processor import dtype
from serving.engine.resolve import HomeAndEngine, ModelSource, json_file
from serving.engine.settings import EngineSettings

SERVER_MODULE = "serving.engine.server"

# Ranks that vLLM has kernels for.
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def engine_command(
    source: ModelSource,
    address: Address,
    settings: EngineSettings,
    keyring: Path,
    traces_endpoint: str | None = None,
) -> list[str]:
    """The command that starts vLLM's OpenAI server for `source`."""
    # -P: a `torch.py` in the working directory must not be taken for PyTorch.
    command = [sys.executable, "-P", "-m", SERVER_MODULE]
    command += ["--model", str(source.path), *_names(source), *_adapters(source, settings)]
    command += ["--host", address.host, "--port", str(address.port)]
    # The gateway logs requests. The engine's log must hold no prompt and stay readable.
    command += ["--disable-uvicorn-access-log", "--no-enable-log-requests"]
    command += ["--shutdown-timeout", str(settings.drain_s)]
    command += ["--additional-config", json.dumps(_told(source, keyring))]
    length = _max_model_len(source, settings)
    if length is not None:
        command += ["--max-model-len", str(length)]
    command += ["--dtype", dtype(source, settings)]
    if settings.is_eager():
        command.append("--enforce-eager")
    if settings.effective_device() == "gpu":
        command += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
    if settings.runner != "auto":
        command += ["--runner", settings.runner]
    if settings.tool_call_parser and settings.runner != "pooling":
        command += ["--enable-auto-tool-choice", "--tool-call-parser", settings.tool_call_parser]
    command += ["--middleware", "serving.engine.gate.EngineGate"]
    if traces_endpoint:
        command += ["--otlp-traces-endpoint", traces_endpoint]
    return command + settings.arguments


def engine_environment(
    settings: EngineSettings,
    inherited: Mapping[str, str],
    traces_endpoint: str | None = None,
    api_key: str | None = None,
    live: LiveAdapters | None = None,
) -> dict[str, str]:
    """The environment of vLLM's process: ours, less our own settings (they may hold secrets), plus what vLLM needs.

    `api_key`: what whoever asks it must send; None asks for none, unless VLLM_API_KEY is set already. `live`: from
    where adapters may be loaded while it serves; None: from nowhere.
    """
    environment = {name: value for name, value in inherited.items() if not name.startswith("SIGNET_")}
    environment |= {
        # The model is a local folder by now. vLLM must not look for anything newer, or tell anyone.
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        # As -P, for the processes that vLLM starts.
        "PYTHONSAFEPATH": "1",
        # Plain text in the log file.
        "NO_COLOR": "1",
        "VLLM_LOGGING_COLOR": "0",
    }
    if settings.effective_device() == "cpu":
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gb)
        environment["VLLM_CPU_OMP_THREADS_BIND"] = settings.cpu_threads_bind
    if api_key:
        environment["VLLM_API_KEY"] = api_key
    if live is not None:
        environment |= {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", VARIABLE: live.to_variable()}
    if traces_endpoint:
        # vLLM's own default is gRPC; the gateway exports over HTTP, to the same collector.
        environment.setdefault("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
        environment.setdefault("OTEL_SERVICE_NAME", "signet-engine")
    return environment | settings.environment


def live_adapters(source: ModelSource, settings: HomeAndEngine) -> LiveAdapters | None:
    """From where an engine may load adapters while it serves; None where the settings have none.

    Raises ModelRefused where nothing vouches for the base: then no adapter is known to fit.
    """
    if not settings.engine.live_adapters:
        return None
    bases = list(source.manifests.values())
    if not bases:
        raise ModelRefused(f"engine.live_adapters: {source.served_name} has no verified manifest that adapters name")
    return LiveAdapters(str(settings.home / "registry"), str(settings.home / "keys"), bases)


def _told(source: ModelSource, keyring: Path) -> dict[str, Any]:
    """What the plugin is to know: where the keyring is, and which checkpoint each served name is."""
    told: dict[str, Any] = {"signet": {"keyring": str(keyring)}}
    if source.manifests:
        told["signet_manifests"] = source.manifests
    return told


def _names(source: ModelSource) -> list[str]:
    if source.adapter is None:
        return ["--served-model-name", source.served_name]
    return [
        "--served-model-name", f"{source.served_name}-base",
        "--lora-modules", f"{source.served_name}={source.adapter}",
    ]  # fmt: skip


def _adapters(source: ModelSource, settings: EngineSettings) -> list[str]:
    """Room for the adapter that it is started with, and for those to come."""
    ranks = [settings.max_lora_rank] if settings.live_adapters else []
    if source.adapter is not None:
        ranks.append(json_file(source.adapter / "adapter_config.json")["r"])
    if not ranks:
        return []
    rank = next((rank for rank in LORA_RANKS if rank >= max(ranks)), max(ranks))
    at_once = settings.live_adapters + (source.adapter is not None)
    return ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(at_once)]


def _max_model_len(source: ModelSource, settings: EngineSettings) -> int | None:
    """The shorter of what is set and what the model can: vLLM refuses more than the latter."""
    config = source.config
    of_model = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    # Sentence-transformers' own limit, which embedding models keep beside the architecture's.
    of_sentences = json_file(source.path / "sentence_bert_config.json").get("max_seq_length")
    limits = [limit for limit in (settings.max_model_len, of_model, of_sentences) if limit]
    return min(limits, default=None)
