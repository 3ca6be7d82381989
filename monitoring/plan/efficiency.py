"""What vLLM reaches of a device's peaks, and what a step costs beside them.

A roofline's peaks are never reached. These shares were fitted to published measurements, and are compared with others
in docs/benchmarks/planner.md. Everything that follows from them is an estimate, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.plan.sources import Source


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares of peaks, and seconds that no peak explains."""

    bandwidth: float
    compute: float
    """Of 16-bit and 32-bit peaks."""
    compute_8bit: float
    """Of FP8's and INT8's, where activations are quantized on the way."""
    unpacking: float
    """Of `compute`, with weights of 4 bits, which are unpacked on the way."""
    overlap: float
    """How far reading and multiplying hide behind each other: times add up to this power. 1: not at all."""
    layer_s: float
    """Each step, for each layer: kernels that are short whatever the batch."""
    sequence_s: float
    """Each step, for each answer in it: scheduling, sampling, text."""
    request_s: float
    """Before a request's first step: HTTP, template, tokens."""
    sources: tuple[Source, ...]


ON_ACCELERATORS = Efficiency(
    bandwidth=0.9,
    compute=0.6,
    compute_8bit=0.45,
    unpacking=1.0,
    overlap=2.0,
    layer_s=60e-6,
    sequence_s=20e-6,
    request_s=7e-3,
    sources=(
        Source("yobitelcomm.github.io/bench: Llama 3.1 8B on an H100: 6.48 ms a token, 14 to the first", "2026-05-16"),
        Source(
            "github.com/tgarg01/silybench-data: Qwen3 8B, FP8, on an H100: 4.80 and 7.22 ms at 1 and 16", "2026-09-24"
        ),
        Source("TensorRT-LLM 1.0, perf-overview.md: Llama 3.1 8B, FP8, on an H100 and an H200", "2025"),
        Source("docs.vultr.com, HGX B200: 8.91 ms a token at 128 answers, 15.46 at 512", "2026-03-11"),
    ),
)

ON_PROCESSORS = Efficiency(
    bandwidth=0.6,
    compute=0.6,
    compute_8bit=0.6,
    unpacking=0.4,
    # Steps of the engine grow straight with the answers in them (docs/decisions/002 and 024).
    overlap=1.0,
    layer_s=0.0,
    sequence_s=0.0,
    request_s=0.0,
    sources=(
        Source("docs/benchmarks/training.md, Pruned: 240 of the 400 ms of a step are matrices", "2026-11-30"),
        Source("docs/guides/quantize.md: 247 tokens/s in 4 bits and 411 in bf16, at 16 streams", "2026-11-24"),
    ),
)
