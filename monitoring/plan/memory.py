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

# What vLLM keeps beside weights and cache is known only from what it reports. These fit an 8B model on an 80 GB device,
# alone (58 GiB of cache at 95%, and 53.3 at 90%) and on two.
_REPORTS = Source("github.com/llm-d-incubation/llm-d-planner/pull/205, vllm-project/vllm/pull/10511", "2026-04-24")
RUNTIME = Figure(0.5 * GIB, "bytes a device: context and captured graphs", _REPORTS)
RUNTIME_LINKED = Figure(1.0 * GIB, "bytes a device, with buffers to its neighbours", _REPORTS)
LOGIT = Figure(16, "bytes of each answer and token of the vocabulary, while sampling", _REPORTS)
MLP_MARGIN = Figure(
    1.4, "of an MLP's largest tensors",
    Source("github.com/vllm-project/vllm/issues/13061: 0.19 GiB where these are 0.14", "2025-02-11"),
)  # fmt: skip
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
        activations = activation_bytes(shape, accelerator.batched_tokens, accelerator.max_answers, devices)
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


def activation_bytes(shape: Shape, tokens: int, answers: int, devices: int = 1) -> int:
    """Of a step of so many tokens and answers, at its widest: an MLP, or the choice from the vocabulary."""
    hidden = max(shape.hidden, shape.experts.hidden * shape.experts.per_token if shape.experts else 0)
    # Gate, up and product, beside input, residual and result, in 16 bits.
    mlp = tokens * (3 * hidden // devices + 3 * shape.width) * 2 * MLP_MARGIN.value
    return int(max(mlp, answers * shape.vocab_size * LOGIT.value))


def adapters_of(adapter_config: Mapping[str, Any], adapters: Adapters) -> Adapters:
    """With one more, as an adapter's own configuration says."""
    rank = adapter_config.get("r")
    if not isinstance(rank, int) or rank < 1:
        raise PlanError(f"adapter_config.json has no usable rank: {rank!r}")
    return Adapters(adapters.at_once + 1, max(adapters.rank, rank))
