"""How long a step of an engine takes: a roofline over what it reads and what it multiplies, and what neither explains.

Prompts are bound by operations, answers by bandwidth: each step of answers reads all weights once, however many answers
share it, and each answer's own keys and values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from monitoring.plan.accelerators import Accelerator, Arithmetic
from monitoring.plan.efficiency import ON_ACCELERATORS, ON_PROCESSORS, Efficiency
from monitoring.plan.errors import PlanError
from monitoring.plan.weights import Weights

_8BIT: tuple[Arithmetic, ...] = ("fp8", "int8")
_WIDER: tuple[Arithmetic, ...] = ("16-bit", "fp32")
# One all-reduce of few tokens among neighbours: its latency, not its bytes.
_REDUCE_S = 10e-6


@dataclass(frozen=True)
class Roofline:
    """One engine's speed."""

    weights: Weights
    accelerator: Accelerator
    devices: int
    kv_bytes_per_token: float
    """Of all devices together."""

    @property
    def efficiency(self) -> Efficiency:
        return ON_PROCESSORS if self.accelerator.is_here else ON_ACCELERATORS

    @cached_property
    def bandwidth(self) -> float:
        """Reached, bytes a second, all devices together."""
        share = self.accelerator.bandwidth_share or self.efficiency.bandwidth
        return self.accelerator.bandwidth * share * self.devices

    @cached_property
    def operations(self) -> float:
        """Reached, a second, all devices together."""
        kind = self.arithmetic
        share = self.efficiency.compute_8bit if kind in _8BIT else self.efficiency.compute
        if self.weights.are_packed:
            share *= self.efficiency.unpacking
        return self.accelerator.operations[kind] * (self.accelerator.compute_share or share) * self.devices

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """In what products are computed: where a device lacks the weights' own, in the widest it has below them."""
        wanted, has = self.weights.arithmetic, self.accelerator.operations
        if wanted == "fp8" and self.accelerator.is_here:
            raise PlanError("vLLM computes no FP8 on processors: choose --precision int8, or leave it out")
        if wanted in has:
            return wanted
        for wider in _WIDER:
            if wider in has and wanted != "fp32":
                return wider
        raise PlanError(
            f"no figure for {wanted} on {self.accelerator.name}: known are {', '.join(has)}; choose --precision"
        )

    def weight_bytes(self, tokens: float) -> float:
        """Read by a step of so many tokens: of routed experts, those that any of them is sent to."""
        routed, experts = self.weights.routed_bytes, self.weights.shape.experts
        if experts is None:
            return self.weights.layer_bytes + self.weights.output_bytes
        reached: float = 1 - (1 - experts.per_token / experts.count) ** tokens
        return self.weights.layer_bytes - routed + routed * reached + self.weights.output_bytes

    def step_s(self, answers: float, context: float, prompt_tokens: float = 0, prompt_context: float = 0) -> float:
        """Seconds of a step that gives each of `answers` a token and reads `prompt_tokens` of new prompts.

        `context`: tokens before each answer's next one, mean. `prompt_context`: before each of the prompts', mean.
        """
        shape, tokens = self.weights.shape, answers + prompt_tokens
        seen = shape.kept_tokens(context)
        moved = self.weight_bytes(tokens) + self.kv_bytes_per_token * (answers * seen + prompt_tokens)
        # Of prompts, the output layer is asked for the last token alone.
        output = shape.vocab_size * shape.width * (answers + (1 if prompt_tokens else 0))
        attended = answers * seen + prompt_tokens * shape.kept_tokens(prompt_context)
        attention = 2 * shape.layers * shape.heads * shape.head_width * attended
        operations = 2 * (tokens * shape.weights_per_token + output + attention)
        # The larger of the two, as a roofline has it, is too little near their crossing.
        power = self.efficiency.overlap
        bound: float = ((moved / self.bandwidth) ** power + (operations / self.operations) ** power) ** (1 / power)
        overhead = shape.layers * self.efficiency.layer_s + answers * self.efficiency.sequence_s
        return bound + overhead + self._between_devices_s(tokens)

    def first_token_s(self, tokens: int) -> float:
        """Seconds until a request's first token when it is alone."""
        return self.efficiency.request_s + self.prompt_s(tokens)

    def prompt_s(self, tokens: int, prompts: int = 1) -> float:
        """Seconds to read prompts that are there at once and alone, in steps as long as the engine takes."""
        done, spent = 0, 0.0
        while done < tokens * prompts:
            chunk = min(tokens * prompts - done, self.accelerator.batched_tokens)
            spent += self.step_s(0, 0, chunk, done + chunk / 2 if prompts == 1 else tokens / 2)
            done += chunk
        return spent

    def crossing(self, context: float) -> float:
        """Answers in a step at which multiplying takes as long as reading; inf where keys and values keep it behind.

        With a context of 0: of the weights alone.
        """
        shape = self.weights.shape
        weights = shape.weights_per_token + shape.vocab_size * shape.width
        seen = shape.kept_tokens(context)
        operations = 2 * weights + 4 * shape.layers * shape.heads * shape.head_width * seen
        gained = operations / self.operations - self.kv_bytes_per_token * seen / self.bandwidth
        return self.weight_bytes(math.inf) / self.bandwidth / gained if gained > 0 else math.inf

    def _between_devices_s(self, tokens: float) -> float:
        """Two all-reduces a layer of every token's state, in 16 bits, over links that carry half their rate one way."""
        if self.devices == 1:
            return 0.0
        shape = self.weights.shape
        sent = 2 * (self.devices - 1) / self.devices * tokens * shape.width * 2
        return 2 * shape.layers * (_REDUCE_S + sent / (self.accelerator.link / 2))
