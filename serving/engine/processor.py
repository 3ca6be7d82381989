"""What this machine's CPU has for a model: kernels for 4-bit weights need AVX-512, fast ones for bf16 its BF16 part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving.engine.errors import ModelRefused
from serving.engine.resolve import ModelSource
from serving.engine.settings import EngineSettings

CPUINFO = Path("/proc/cpuinfo")


def require_kernels(source: ModelSource, settings: EngineSettings, cpuinfo: Path = CPUINFO) -> None:
    """Raise ModelRefused for 4-bit weights on a CPU that vLLM has no kernel for: it would die at the first question."""
    if settings.effective_device() == "cpu" and _weight_bits(source) == 4 and lacks_avx512(cpuinfo):
        raise ModelRefused(
            f"{source.served_name} has 4-bit weights, for which vLLM needs a CPU with AVX-512, and this one has none: "
            "serve it on another machine or on a GPU, or quantize with --scheme w8a8"
        )


def dtype(source: ModelSource, settings: EngineSettings, cpuinfo: Path = CPUINFO) -> str:
    """What `--dtype` of vLLM is to be (docs/decisions/024-float32-without-avx512.md)."""
    if settings.dtype != "auto" or settings.effective_device() != "cpu" or _weight_bits(source) is not None:
        return settings.dtype
    # vLLM's own `auto` would round 32-bit weights to 16.
    return "float32" if _stored(source) == "float32" or lacks_bf16(cpuinfo) else "auto"


def loaded_bytes(source: ModelSource, settings: EngineSettings, cpuinfo: Path = CPUINFO) -> int:
    """Size of the weights in memory: 16-bit ones double where the engine computes in 32 bits."""
    doubles = dtype(source, settings, cpuinfo) == "float32" and _stored(source) in ("bfloat16", "float16")
    return source.weight_bytes * (2 if doubles else 1)


def lacks_avx512(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this is an x86 without AVX-512. False where nobody says what the processor has."""
    return _lacks("avx512f", cpuinfo)


def lacks_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this is an x86 that multiplies bf16 in many steps, as all do before Cooper Lake and Zen 4."""
    return _lacks("avx512_bf16", cpuinfo)


def _lacks(flag: str, cpuinfo: Path) -> bool:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), None)
    return flags is not None and flag not in flags.split()


def _stored(source: ModelSource) -> Any:
    """The type of the weights as the configuration names it."""
    return source.config.get("dtype") or source.config.get("torch_dtype")


def _weight_bits(source: ModelSource) -> int | None:
    """Bits a weight that a quantized checkpoint states; None for one that is not quantized, 0 where it states none."""
    quantized = source.config.get("quantization_config")
    if not isinstance(quantized, dict):
        return None
    groups = quantized.get("config_groups") or {"all": {"weights": {"num_bits": quantized.get("bits")}}}
    bits = [group["weights"].get("num_bits") for group in groups.values() if group.get("weights")]
    return min((bit for bit in bits if isinstance(bit, int)), default=0)
