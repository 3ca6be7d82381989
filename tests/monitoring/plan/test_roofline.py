"""Steps of an engine, beside what was published of vLLM on accelerators and recorded of the engine on processors."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from monitoring.plan.accelerators import ACCELERATORS, Accelerator
from monitoring.plan.errors import PlanError
from monitoring.plan.memory import memory_of
from monitoring.plan.roofline import Roofline
from monitoring.plan.shape import read_shape
from monitoring.plan.weights import weights_of


def _engine(config: dict[str, Any], accelerator: Accelerator, precision: str = "auto", devices: int = 1) -> Roofline:
    weights = weights_of(config, read_shape(config), precision)
    per_token = memory_of(weights, accelerator, devices=devices).kv_per_token
    return Roofline(weights, accelerator, devices, per_token * devices)


def _qwen3_8b(llama_8b: dict[str, Any]) -> dict[str, Any]:
    return llama_8b | {
        "model_type": "qwen3",
        "intermediate_size": 12288,
        "head_dim": 128,
        "num_hidden_layers": 36,
        "vocab_size": 151936,
    }


def test_answers_take_as_long_as_was_published(llama_8b: dict[str, Any]) -> None:
    """Within the planner's bar of 25%; sources and ratios: docs/benchmarks/planner.md."""
    h100 = _engine(llama_8b, ACCELERATORS["h100"])
    fp8 = _engine(_qwen3_8b(llama_8b), ACCELERATORS["h100"], "fp8")
    a100 = _engine(llama_8b, ACCELERATORS["a100-40gb"])

    measured = {
        h100.step_s(1, 200): 6.48e-3,
        h100.step_s(4, 200): 6.59e-3,
        fp8.step_s(1, 3072): 4.80e-3,
        fp8.step_s(16, 3072): 7.22e-3,
        a100.step_s(1, 1088): 1 / 75,
    }

    assert all(planned == pytest.approx(seen, rel=0.25) for planned, seen in measured.items())


def test_a_processors_steps_grow_as_the_engine_was_recorded(smollm: dict[str, Any], processor: Accelerator) -> None:
    """Decision 024: 8.5, 41 and 66 tokens/s at 1, 8 and 32 streams; of that machine's speed only the shape is known."""
    engine = _engine(smollm, replace(processor, bandwidth=7.6e9, operations={"fp32": 37e9}), "fp32")

    speeds = [number / engine.step_s(number, 50) for number in (1, 8, 32)]

    assert speeds == [pytest.approx(seen, rel=0.25) for seen in (8.5, 41, 66)]


def test_prompts_are_bound_by_operations_and_answers_by_bandwidth(llama_8b: dict[str, Any]) -> None:
    h100 = ACCELERATORS["h100"]
    engine = _engine(llama_8b, h100)
    slower = _engine(llama_8b, replace(h100, operations={"16-bit": h100.operations["16-bit"] / 2}))
    narrower = _engine(llama_8b, replace(h100, bandwidth=h100.bandwidth / 2))

    assert slower.prompt_s(8192) / engine.prompt_s(8192) == pytest.approx(2, rel=0.1)
    assert narrower.prompt_s(8192) / engine.prompt_s(8192) == pytest.approx(1, rel=0.1)
    assert slower.step_s(1, 100) / engine.step_s(1, 100) == pytest.approx(1, rel=0.05)
    assert narrower.step_s(1, 100) / engine.step_s(1, 100) > 1.6


def test_several_prompts_do_not_attend_to_each_other(llama_8b: dict[str, Any]) -> None:
    engine = _engine(llama_8b, ACCELERATORS["b200"])

    assert engine.prompt_s(1000, 8) < engine.prompt_s(8000)
    assert engine.prompt_s(1000, 8) == pytest.approx(engine.step_s(0, 0, 8000, 500))
    assert engine.prompt_s(1000, 1) == pytest.approx(engine.step_s(0, 0, 1000, 500))


def test_they_cross_where_multiplying_takes_as_long_as_reading(llama_8b: dict[str, Any]) -> None:
    engine = _engine(llama_8b, ACCELERATORS["h100"])

    answers = engine.crossing(0)

    multiplying = 2 * answers * (engine.weights.shape.weights_per_token + 4096 * 128256) / engine.operations
    assert multiplying == pytest.approx(engine.weight_bytes(1) / engine.bandwidth)
    # In FP8 a long context's keys and values take longer than what is multiplied with them.
    assert math.isinf(_engine(llama_8b, ACCELERATORS["h100"], "fp8").crossing(4000))


def test_experts_are_read_when_a_token_is_sent_to_them(llama_8b: dict[str, Any]) -> None:
    mixtral = llama_8b | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    engine = _engine(mixtral, ACCELERATORS["b200"])
    weights = engine.weights

    alone = weights.layer_bytes - weights.routed_bytes * 6 / 8 + weights.output_bytes

    assert engine.weight_bytes(1) == pytest.approx(alone)
    assert engine.weight_bytes(64) == pytest.approx(weights.layer_bytes + weights.output_bytes, rel=1e-6)


def test_a_device_without_fp8_computes_in_16_bits(llama_8b: dict[str, Any]) -> None:
    assert _engine(llama_8b, ACCELERATORS["a100-80gb"], "fp8").arithmetic == "16-bit"
    with pytest.raises(PlanError, match="no figure for fp32 on l4: known are 16-bit, fp8, int8"):
        _engine(llama_8b, ACCELERATORS["l4"], "fp32").operations  # noqa: B018 (asked for what it raises)


def test_weights_of_4_bits_are_unpacked_on_a_processor(smollm: dict[str, Any], processor: Accelerator) -> None:
    """docs/guides/quantize.md: 247 and 411 tokens/s at 16 streams, on a machine that multiplies bf16."""
    with_bf16 = replace(processor, bandwidth=25e9, operations={"fp32": 150e9, "16-bit": 300e9})

    four, sixteen = (_engine(smollm, with_bf16, precision) for precision in ("int4", "bf16"))

    assert sixteen.step_s(16, 60) / four.step_s(16, 60) == pytest.approx(247 / 411, rel=0.25)


def test_more_devices_are_faster_but_not_as_many_times(llama_8b: dict[str, Any]) -> None:
    one, four = _engine(llama_8b, ACCELERATORS["h100"]), _engine(llama_8b, ACCELERATORS["h100"], devices=4)

    assert 1.5 < one.step_s(1, 1000) / four.step_s(1, 1000) < 4
    assert 2 < one.prompt_s(4000) / four.prompt_s(4000) < 4
