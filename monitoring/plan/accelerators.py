"""What accelerators have, as published: memory, bandwidth, dense operations a second, power."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from monitoring.plan.sources import Source

GIB = 1024**3
_MIB = 1024**2
_TERA = 1e12

Arithmetic = Literal["fp32", "16-bit", "fp8", "int8"]
"""In what a matrix product is computed."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device. Rates are peaks: `efficiency` says what an engine reaches of them."""

    name: str
    memory_bytes: int
    """What the driver reports, which is less than the name says."""
    bandwidth: float
    """Of its memory, bytes a second."""
    operations: Mapping[Arithmetic, float]
    """Dense, a second; a multiplication and an addition are two. Sparse peaks are twice these and not for us."""
    power_w: float | None
    """Thermal design power; None where nobody says it."""
    link: float
    """To its neighbours, bytes a second, both directions together."""
    batched_tokens: int
    """vLLM's own limit of a step there (`max_num_batched_tokens` of its server)."""
    sources: tuple[Source, ...]
    compute_share: float | None = None
    bandwidth_share: float | None = None
    """What an engine reaches of the peaks, where this device is known to differ from what `efficiency` says."""

    @property
    def max_answers(self) -> int:
        """vLLM's own limit of answers in a step there (`max_num_seqs` of its server)."""
        if self.is_here:
            return 128
        return 1024 if self.batched_tokens >= 8192 else 256

    @property
    def is_here(self) -> bool:
        """Whether it is this machine's processor, measured."""
        return self.name == HERE


HERE = "here"

_LLMBOOK = Source("llmbook.apartsin.com, appendix G.1: GPU comparison", "2026")
_MI300X = Source("github.com/alpharomercoma/MI300X-vs-H200, METHODOLOGY.md and REPORT.md (vLLM 0.26)", "2026")
_VLLM_LOG = Source("github.com/vllm-project/vllm/pull/10511: memory profiling of an 80 GB device", "2024-12-14")


def _driver(model: str) -> Source:
    return Source(f"nvidia-smi of an {model}, in several public logs", "2026-11")


ACCELERATORS: Mapping[str, Accelerator] = {
    row.name: row
    for row in (
        Accelerator(
            "a100-40gb", int(39.4 * GIB), 1.555 * _TERA, {"16-bit": 312 * _TERA, "int8": 624 * _TERA}, 400, 600e9, 2048,
            (Source("huggingface.co/RajBhope/gpu-runtime-predictor, gpu_catalog.json", "2026-11"),
             Source("hmc-tech.com: NVIDIA A100 SXM 40GB, dense tensor peaks", "2026-11")),
        ),
        Accelerator(
            "a100-80gb", int(79.2 * GIB), 2.039 * _TERA, {"16-bit": 312 * _TERA, "int8": 624 * _TERA}, 400, 600e9, 2048,
            (_LLMBOOK, Source("acecloud.ai/blog/nvidia-b200-vs-h200-h100-a100: 2.039 TB/s", "2026-11"), _VLLM_LOG),
        ),
        Accelerator(
            "h100", int(79.2 * GIB), 3.35 * _TERA,
            {"16-bit": 989.4 * _TERA, "fp8": 1978.9 * _TERA, "int8": 1978.9 * _TERA}, 700, 900e9, 8192,
            (Source("glennklockwood.com/garden/processors/h100: SXM5", "2026-11"), _VLLM_LOG),
        ),
        Accelerator(
            "h200", 143771 * _MIB, 4.8 * _TERA,
            {"16-bit": 989.4 * _TERA, "fp8": 1978.9 * _TERA, "int8": 1978.9 * _TERA}, 700, 900e9, 8192,
            (_MI300X, _LLMBOOK, _driver("H200")),
        ),
        Accelerator(
            "b200", 183359 * _MIB, 8.0 * _TERA, {"16-bit": 2250 * _TERA, "fp8": 4500 * _TERA}, 1000, 1800e9, 16384,
            (_LLMBOOK, _driver("B200")),
        ),
        Accelerator(
            "l40s", 46068 * _MIB, 864e9,
            {"16-bit": 362 * _TERA, "fp8": 733 * _TERA, "int8": 733 * _TERA}, 350, 64e9, 2048,
            (_LLMBOOK, Source("mullet.se: NVIDIA L40 and L40S, peaks without sparsity", "2026-11"), _driver("L40S")),
        ),
        Accelerator(
            "l4", 23034 * _MIB, 300e9,
            {"16-bit": 121 * _TERA, "fp8": 242.5 * _TERA, "int8": 242.5 * _TERA}, 72, 64e9, 2048,
            (Source("store.sourcecode.com: NVIDIA L4, 300 GB/s, halves of its sparse peaks", "2026-11"), _driver("L4")),
        ),
        Accelerator(
            "mi300x", 192 * GIB, 5.3 * _TERA, {"16-bit": 1307.4 * _TERA, "fp8": 2614.9 * _TERA}, 750, 896e9, 16384,
            (_MI300X, _LLMBOOK),
            # Measured beside an H200: prompts 2.06 times as slow for more peak, a single stream as fast.
            compute_share=0.22, bandwidth_share=0.82,
        ),
    )
}  # fmt: skip
