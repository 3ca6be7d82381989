"""Memory, beside what vLLM reported: a GPU's profile of Llama 3 8B, and the CPU engine's own line about its cache."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.plan.accelerators import ACCELERATORS, GIB, Accelerator
from monitoring.plan.errors import PlanError
from monitoring.plan.memory import Adapters, Memory, activation_bytes, adapters_of, memory_of
from monitoring.plan.shape import read_shape
from monitoring.plan.weights import weights_of


def _memory(config: dict[str, Any], accelerator: Accelerator, precision: str = "auto", **options: Any) -> Memory:
    return memory_of(weights_of(config, read_shape(config), precision), accelerator, **options)


def test_it_is_what_vllm_reports_on_80_gb(llama_8b: dict[str, Any]) -> None:
    """vllm-project/vllm pull request 10511 (90%), llm-d-planner pull request 205 (95%)."""
    one, two = (_memory(llama_8b, ACCELERATORS["h100"], devices=number) for number in (1, 2))
    fuller = _memory(llama_8b, ACCELERATORS["h100"], utilization=0.95)

    assert one.weights / GIB == pytest.approx(14.96, abs=0.01)
    assert two.weights / GIB == pytest.approx(7.48, abs=0.01)
    # The planner's bar is a tenth.
    assert one.cache / GIB == pytest.approx(53.29, rel=0.05)
    assert two.cache / GIB == pytest.approx(58.97, rel=0.05)
    assert fuller.cache / GIB == pytest.approx(58, rel=0.05)


def test_a_large_vocabulary_takes_more_than_an_mlp(llama_8b: dict[str, Any]) -> None:
    small, large = (read_shape(llama_8b | {"vocab_size": size}) for size in (32_000, 256_000))

    assert activation_bytes(small, 8192, 1024) == activation_bytes(small, 8192, 1)
    assert activation_bytes(large, 8192, 1024) == 1024 * 256_000 * 16


@pytest.mark.parametrize(
    ("layers", "precision", "gb", "tokens"),
    [
        pytest.param(30, "bf16", 2, 93_184, id="bf16"),
        pytest.param(30, "fp32", 2, 46_592, id="fp32"),
        pytest.param(30, "fp32", 1, 23_296, id="1 GB"),
        pytest.param(28, "fp32", 2, 49_920, id="pruned"),
    ],
)
def test_the_cache_is_what_the_cpu_engine_says_it_is(
    smollm: dict[str, Any], processor: Accelerator, layers: int, precision: str, gb: int, tokens: int
) -> None:
    """vLLM 0.32's line `CPU KV cache size: … tokens`, for the default model and for it without two layers."""
    config = smollm | {"num_hidden_layers": layers}

    assert _memory(config, processor, precision, cache_bytes=gb * GIB).cache_tokens == tokens


def test_the_cpu_engine_takes_what_it_was_measured_to_take(smollm: dict[str, Any], processor: Accelerator) -> None:
    """Decision 002: 5.0 GB resident."""
    memory = _memory(smollm, processor, "bf16", cache_bytes=2 * GIB)

    assert memory.usable / 1e9 == pytest.approx(5.0, rel=0.1)


def test_answers_are_held_in_whole_blocks(smollm: dict[str, Any], processor: Accelerator) -> None:
    memory = _memory(smollm, processor, "bf16", cache_bytes=2 * GIB, answers=3, tokens=130)

    assert memory.wanted_tokens == 3 * 256
    assert memory.answers(130) == 93_184 // 256


def test_several_devices_share_weights_and_heads(llama_8b: dict[str, Any]) -> None:
    one, two, sixteen = (_memory(llama_8b, ACCELERATORS["h100"], devices=number) for number in (1, 2, 16))

    assert two.weights == one.weights // 2
    assert two.kv_per_token == one.kv_per_token / 2
    # Eight heads of keys on sixteen devices: each is kept twice.
    assert sixteen.kv_per_token == one.kv_per_token / 8


def test_heads_that_do_not_divide_are_one_line(smollm: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="9 heads and 3 of keys do not divide among 2 devices"):
        _memory(smollm, ACCELERATORS["h100"], devices=2)


def test_adapters_take_room_for_all_at_the_highest_rank(smollm: dict[str, Any]) -> None:
    shape = read_shape(smollm)
    around = sum(matrix.outputs + matrix.inputs for matrix in shape.matrices) + 2 * (49152 + 576)

    with_one = adapters_of({"r": 16}, Adapters(at_once=3, rank=8))

    assert with_one == Adapters(at_once=4, rank=16)
    assert with_one.bytes_of(shape) == 2 * 4 * 16 * around


def test_what_does_not_fit_says_so(llama_8b: dict[str, Any]) -> None:
    wide = llama_8b | {"num_hidden_layers": 400}

    memory = _memory(wide, ACCELERATORS["l4"])

    assert not memory.fits
    assert memory.cache < 0
    assert memory.cache_tokens == memory.answers(100) == 0
