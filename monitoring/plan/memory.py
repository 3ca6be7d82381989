"""What an engine needs of a device's memory, and how many answers its cache then holds at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.plan.accelerators import GIB, Accelerator
from monitoring.plan.errors import PlanError
from monitoring.plan.shape import Shape
from monitoring.plan.sources import Figure, Source
from monitoring.plan.weights import Weights

_LOG = Source("github.com/vllm-project/vllm/pull/10511: Llama 3 8B on one and on two 80 GB devices", "2024-12-14")

# CUDA's context, captured graphs and, between devices, NCCL's buffers.
RUNTIME = Figure(1.79 * GIB, "bytes a device", _LOG)
RUNTIME_LINKED = Figure(3.58 * GIB, "bytes a device, several to an engine", _LOG)
# The profiled peak there is 1.26 GiB for 8,192 tokens; the tensors of an MLP that are alive at once are 0.84.
ACTIVATION_MARGIN = Figure(1.5, "of the largest MLP's tensors", _LOG)
PROCESSES = Figure(
    2.5 * GIB, "bytes of vLLM's processes on a CPU, a batch included",
    Source("docs/decisions/002-eager-engine.md: 5.0 GB resident with 2 GB of cache and 0.27 of weights", "2026-11-24"),
)  # fmt: skip

# vLLM hands out the cache in blocks of so many tokens.
_BLOCK, _BLOCK_HERE = 16, 128


@dataclass(frozen=True, slots=True)
class Adapters:
    """Room for LoRA adapters: vLLM keeps it for all of them at their highest rank, whether they are loaded or not."""

    at_once: int = 0
    rank: int = 0

    def bytes_of(self, shape: Shape) -> int:
        """Two matrices beside every linear layer, the embedding and the output layer."""
        numbers = sum(matrix.outputs + matrix.inputs for matrix in shape.matrices)
        numbers += 2 * (shape.vocab_size + shape.width)
        return 2 * self.at_once * self.rank * numbers


NO_ADAPTERS = Adapters()


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each device of an engine."""

    weights: int
    adapters: int
    activations: int
    runtime: int
    usable: int
    """Of the device, what an engine may take."""
    kv_per_token: float
    """On each device."""
    block: int
    """Tokens that the cache is handed out by."""
    wanted_tokens: int
    """Of the answers that are to be open at once, in whole blocks."""

    @property
    def cache(self) -> int:
        """What is left for keys and values; below 0 where the weights alone are too much."""
        return self.usable - self.weights - self.adapters - self.activations - self.runtime

    @property
    def wanted_cache(self) -> int:
        return int(self.wanted_tokens * self.kv_per_token)

    @property
    def cache_tokens(self) -> int:
        """What fits, in whole blocks."""
        return max(int(self.cache / (self.block * self.kv_per_token)), 0) * self.block

    @property
    def fits(self) -> bool:
        return self.wanted_cache <= self.cache

    def answers(self, tokens: int) -> int:
        """How many of so many tokens, prompt included, fit at once."""
        return self.cache_tokens // blocks_of(tokens, self.block)


def blocks_of(tokens: int, block: int) -> int:
    """The tokens of the whole blocks that hold these."""
    return -(-tokens // block) * block


def memory_of(
    weights: Weights,
    accelerator: Accelerator,
    *,
    devices: int = 1,
    kv_bytes: int | None = None,
    adapters: Adapters = NO_ADAPTERS,
    utilization: float = 0.9,
    answers: int = 1,
    tokens: int = 1,
    cache_bytes: int | None = None,
) -> Memory:
    """On each of `devices`, with `answers` of `tokens` open at once.

    `kv_bytes`: of a number in the cache, as the weights' own where None. `cache_bytes`: what the cache is limited to.
    Raises PlanError where the heads do not divide among the devices.
    """
    shape = weights.shape
    if shape.heads % devices or (shape.kv_heads % devices and devices % shape.kv_heads):
        raise PlanError(f"{shape.heads} heads and {shape.kv_heads} of keys do not divide among {devices} devices")
    # Fewer heads of keys than devices: each device keeps one, some twice.
    copies = max(1, devices // shape.kv_heads)
    block = _BLOCK_HERE if accelerator.is_here else _BLOCK
    per_token = (kv_bytes or weights.plain_bytes) * shape.kv_numbers() * copies / devices
    kept = round(shape.kept_tokens(tokens))
    if accelerator.is_here:
        activations, runtime = 0, int(PROCESSES.value)
    else:
        activations = activation_bytes(shape, accelerator.batched_tokens, devices)
        runtime = int((RUNTIME if devices == 1 else RUNTIME_LINKED).value)
    usable = int(accelerator.memory_bytes * (1.0 if accelerator.is_here else utilization))
    taken = weights.total_bytes // devices + adapters.bytes_of(shape) // devices + activations + runtime
    if cache_bytes is not None:
        usable = min(usable, taken + cache_bytes)
    return Memory(
        weights=weights.total_bytes // devices,
        adapters=adapters.bytes_of(shape) // devices,
        activations=activations,
        runtime=runtime,
        usable=usable,
        kv_per_token=per_token,
        block=block,
        wanted_tokens=answers * blocks_of(kept, block),
    )


def activation_bytes(shape: Shape, tokens: int, devices: int = 1) -> int:
    """Of a step of so many tokens, at its widest: an MLP's gate, up and product, beside input, residual and result."""
    hidden = max(shape.hidden, shape.experts.hidden * shape.experts.per_token if shape.experts else 0)
    widest = tokens * (3 * hidden // devices + 3 * shape.width) * 2
    return int(widest * ACTIVATION_MARGIN.value)


def adapters_of(adapter_config: Mapping[str, Any], adapters: Adapters) -> Adapters:
    """With one more, as an adapter's own configuration says."""
    rank = adapter_config.get("r")
    if not isinstance(rank, int) or rank < 1:
        raise PlanError(f"adapter_config.json has no usable rank: {rank!r}")
    return Adapters(adapters.at_once + 1, max(adapters.rank, rank))
