"""A plan: what is asked, and everything that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from monitoring.plan.accelerators import Accelerator
from monitoring.plan.capacity import Capacity, Objective, capacity_of
from monitoring.plan.cost import Bought, Choices, Owned, Rented, Tokens, bought, owned, rented, tokens_per_month
from monitoring.plan.energy import Energy, energy_of
from monitoring.plan.errors import PlanError
from monitoring.plan.memory import Adapters, Memory, memory_of
from monitoring.plan.queueing import Limits, Load, serve
from monitoring.plan.roofline import Roofline
from monitoring.plan.shape import Shape, read_shape
from monitoring.plan.sources import Figure
from monitoring.plan.weights import Weights, weights_of

_DEVICES = (1, 2, 4, 8)
# FP8 is not for processors.
_NARROWER = ("fp8", "int8", "int4")


@dataclass(frozen=True)
class Question:
    """What is asked."""

    model: str
    config: Mapping[str, Any]
    accelerator: Accelerator
    load: Load
    objective: Objective
    grid: Figure
    average_requests_per_s: float
    devices: int = 1
    precision: str = "auto"
    auto_dtype: str | None = None
    """What `auto` means to the engine on that device, where it is not the checkpoint's own."""
    kv_bytes: int | None = None
    answers: int | None = None
    """To be open at once in an engine; None: as many as the load brings."""
    adapters: Adapters = field(default_factory=Adapters)
    utilization: float = 0.9
    cache_bytes: int | None = None
    choices: Choices = field(default_factory=Choices)
    stored_bytes: int | None = None
    """Of the weights' files, where they lie beside the configuration."""


@dataclass(frozen=True)
class Plan:
    """What follows."""

    question: Question
    shape: Shape
    weights: Weights
    memory: Memory
    """With the answers that are to be open at once."""
    answers: int
    engine: Roofline
    capacity: Capacity
    tokens: Tokens
    rented: list[Rented]
    owned: Owned | None
    bought: list[Bought]
    energy: Energy | None
    advice: list[str]
    """What would help, where it does not fit or nothing holds the objective."""

    @property
    def holds(self) -> bool:
        """Whether it fits, and engines hold the load within the objective."""
        return self.memory.fits and self.capacity.engines > 0

    @property
    def devices(self) -> int:
        """Of all engines."""
        return self.capacity.engines * self.question.devices


def plan(question: Question) -> Plan:
    """Answer a question; raises PlanError for what cannot be planned."""
    shape = read_shape(question.config)
    weights = weights_of(question.config, shape, question.precision, question.auto_dtype)
    load = question.load
    tokens = load.prompt_tokens + load.answer_tokens
    if tokens > shape.context:
        raise PlanError(f"prompt and answer are {tokens:,} tokens together, and the model reads {shape.context:,}")
    memory = _memory(question, weights, 1, tokens)
    engine = Roofline(weights, question.accelerator, question.devices, memory.kv_per_token * question.devices)
    limits = Limits(min(memory.answers(tokens), question.accelerator.max_answers), question.accelerator.batched_tokens)
    capacity = capacity_of(engine, load, limits, question.objective)
    answers = question.answers or (capacity.served.answers_p95 if capacity.served else 1)
    memory = _memory(question, weights, answers, tokens)
    month = tokens_per_month(question.average_requests_per_s, load.prompt_tokens, load.answer_tokens)
    energy = None
    if capacity.engines:
        mean = replace(load, requests_per_s=question.average_requests_per_s / capacity.engines)
        served = serve(engine, mean, limits)
        energy = energy_of(
            question.accelerator, question.devices, capacity.engines, served, month.answer, question.grid
        )
    devices = capacity.engines * question.devices
    return Plan(
        question=question,
        shape=shape,
        weights=weights,
        memory=memory,
        answers=answers,
        engine=engine,
        capacity=capacity,
        tokens=month,
        rented=rented(question.accelerator.name, devices, question.choices) if devices else [],
        owned=owned(question.accelerator.name, devices, energy, question.choices) if devices else None,
        bought=bought(month, shape.num_weights / 1e9),
        energy=energy,
        advice=_advice(question, weights, memory, capacity, answers, tokens),
    )


def _memory(question: Question, weights: Weights, answers: int, tokens: int, devices: int | None = None) -> Memory:
    return memory_of(
        weights,
        question.accelerator,
        devices=devices or question.devices,
        kv_bytes=question.kv_bytes,
        adapters=question.adapters,
        utilization=question.utilization,
        answers=answers,
        tokens=tokens,
        cache_bytes=question.cache_bytes,
    )


def _advice(
    question: Question, weights: Weights, memory: Memory, capacity: Capacity, answers: int, tokens: int
) -> list[str]:
    if not memory.fits:
        return _that_fits(question, weights, answers, tokens)
    if capacity.engines:
        return []
    if capacity.alone_ttft_s > question.objective.ttft_s:
        return [f"a prompt alone takes {1000 * capacity.alone_ttft_s:,.0f} ms to its first token"]
    if capacity.alone_inter_token_s > question.objective.inter_token_s:
        return [f"an answer alone takes {1000 * capacity.alone_inter_token_s:,.0f} ms a token"]
    return ["prompts hold the other answers up for longer than --inter-token-ms allows"]


def _that_fits(question: Question, weights: Weights, answers: int, tokens: int) -> list[str]:
    """The fewest devices that do, and the widest precision that does on as many as were asked for."""
    advice = []
    for devices in (number for number in _DEVICES if number > question.devices and not question.accelerator.is_here):
        try:
            if _memory(question, weights, answers, tokens, devices).fits:
                advice.append(f"it fits with --gpus {devices}")
                break
        except PlanError:
            continue
    if not question.config.get("quantization_config"):
        for precision in _NARROWER[question.accelerator.is_here :]:
            try:
                fewer = weights_of(question.config, weights.shape, precision)
            except PlanError:
                continue
            if fewer.total_bytes < weights.total_bytes and _memory(question, fewer, answers, tokens).fits:
                advice.append(f"it fits with --precision {precision}")
                break
    return advice or [
        f"nothing that plan knows fits on {question.accelerator.name}: fewer answers at once, another device"
    ]
