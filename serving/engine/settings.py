"""What can be set about the engine. Everything else is vLLM's own default, or `arguments`."""

from __future__ import annotations

from importlib import metadata
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Device = Literal["cpu", "gpu"]


class EngineSettings(BaseModel):
    """The `engine` section of the settings tree."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        default=None,
        description="What to serve: NAME[@VERSION] in the registry, a folder, or a Hugging Face id. "
        "Default: the embedded model.",
    )
    allow_unverified: bool = Field(
        default=False,
        description="Load a model although no signed manifest vouches for it. Off: it must verify.",
    )
    device: Literal["auto", "cpu", "gpu"] = Field(
        default="auto", description="Where the engine computes; `auto` goes by which build of vLLM is installed."
    )
    runner: Literal["auto", "generate", "pooling"] = Field(
        default="auto",
        description="What the model is for: `generate` text, or `pooling` for embeddings; `auto` goes by the model.",
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto",
        description="Numbers that the engine computes with; `auto`: the checkpoint's own, but `float32` on an x86 "
        "without AVX512-BF16, which is several times slower in 16 bits. Quantized checkpoints keep their own.",
    )
    port: int = Field(
        default=0, ge=0, le=65535, description="Port of the engine on 127.0.0.1 under `signet serve`; 0: any free one."
    )
    max_model_len: int | None = Field(
        default=4096,
        ge=16,
        description="Longest prompt and answer together, in tokens; never more than the model's own limit. "
        "Empty: the model's limit.",
    )
    kv_cache_gb: int = Field(
        default=2, ge=1, description="Memory for the key-value cache on a CPU, in GB. More: more streams at once."
    )
    gpu_memory_utilization: float = Field(
        default=0.9, gt=0, le=1, description="Share of a GPU's memory that the engine takes."
    )
    eager: bool | None = Field(
        default=None,
        description="True: no compilation, ready sooner. False: compiled, slower start, faster answers. "
        "Empty: eager on a CPU, compiled on a GPU.",
    )
    tool_call_parser: str = Field(
        default="hermes", description="vLLM's parser of tool calls; an empty string switches tools off."
    )
    cpu_threads_bind: str = Field(
        default="auto",
        description="Cores for the engine's threads, as VLLM_CPU_OMP_THREADS_BIND takes it, such as 0-3.",
    )
    start_timeout_s: int = Field(
        default=900, ge=10, description="Seconds the engine may take to become ready before its start counts as failed."
    )
    live_adapters: int = Field(
        default=0,
        ge=0,
        description="LoRA adapters of the registry that may answer at once beside the model, loaded and unloaded while "
        "the engine runs ([live adapters](../guides/adapters.md)). 0: none; the engine is then a little faster.",
    )
    max_lora_rank: int = Field(
        default=32, ge=1, le=512, description="Highest rank of a live adapter; a higher one takes more memory."
    )
    drain_s: int = Field(
        default=3, ge=0, description="Seconds that answers under way get to finish when the engine is told to stop."
    )
    arguments: list[str] = Field(
        default_factory=list, description="Further arguments for vLLM's server, as on its command line."
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="Further environment variables of the engine's process."
    )

    def effective_device(self) -> Device:
        """`cpu` or `gpu`; looks at the installed packages when set to `auto`."""
        if self.device != "auto":
            return self.device
        return "cpu" if is_installed("vllm-cpu") else "gpu"

    def is_eager(self) -> bool:
        """Whether vLLM skips compilation (see docs/decisions/002-eager-engine.md)."""
        return self.effective_device() == "cpu" if self.eager is None else self.eager


def is_installed(distribution: str) -> bool:
    """Whether a distribution is in this environment, without importing it."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
