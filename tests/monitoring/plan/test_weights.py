"""Bytes of weights, to the byte: what the files of each format hold was counted in files that the tools wrote."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.plan.errors import PlanError
from monitoring.plan.shape import read_shape
from monitoring.plan.weights import Weights, weights_of

# A Llama of two layers, as `registry import` and `quantize` have it in their tests.
TINY = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "vocab_size": 259,
    "torch_dtype": "float16",
}


def _weights(config: dict[str, Any], precision: str = "auto", auto: str | None = None) -> Weights:
    return weights_of(config, read_shape(config), precision, auto)


def _group(bits: int, targets: list[str], **weights: Any) -> dict[str, Any]:
    inputs = {"num_bits": 8} if bits == 8 else None
    return {"targets": targets, "input_activations": inputs, "weights": {"num_bits": bits, "type": "int", **weights}}


def _compressed(*groups: dict[str, Any]) -> dict[str, Any]:
    named = {f"group_{number}": group for number, group in enumerate(groups)}
    return {"quant_method": "compressed-tensors", "ignore": ["lm_head"], "config_groups": named}


def test_the_default_model_takes_as_much_as_its_file(smollm: dict[str, Any]) -> None:
    assert _weights(smollm).total_bytes == 269_030_016


def test_int8_takes_as_much_as_signet_quantize_writes(smollm: dict[str, Any]) -> None:
    stated = smollm | {"quantization_config": _compressed(_group(8, ["Linear"], strategy="channel", symmetric=True))}

    assert _weights(stated).total_bytes == 163_172_736
    assert _weights(stated).arithmetic == "int8"
    assert _weights(smollm, "int8").total_bytes == 163_172_736


def test_int4_takes_as_much_as_signet_quantize_writes() -> None:
    config = TINY | {"torch_dtype": "bfloat16"}
    stated = config | {
        "quantization_config": _compressed(_group(4, ["Linear"], strategy="group", group_size=32, symmetric=True))
    }

    assert _weights(stated).total_bytes == _weights(config, "int4").total_bytes == 44_064
    assert _weights(stated).name == "int4, groups of 32"
    # Weights alone are in 4 bits: products are not.
    assert _weights(stated).arithmetic == "16-bit"


@pytest.mark.parametrize(("method", "size"), [("awq", 44_128), ("gptq", 46_176)])
def test_older_layouts_take_as_much_as_their_tools_write(method: str, size: int) -> None:
    stated = TINY | {"quantization_config": {"quant_method": method, "bits": 4, "group_size": 32}}

    assert _weights(stated).total_bytes == size


def test_a_group_that_names_matrices_wins_over_one_that_names_a_kind(smollm: dict[str, Any]) -> None:
    named = [f"model.layers.1.self_attn.{letter}_proj" for letter in "qkv"]
    four = _group(4, ["Linear"], strategy="group", group_size=64, symmetric=False)
    eight = _group(8, named, strategy="channel", symmetric=True)

    mixed = _weights(smollm | {"quantization_config": _compressed(eight, four)})

    assert mixed.name == "int4, groups of 64 and int8"
    assert {name for name, kind in mixed.formats.items() if kind.bits == 8} == set(named)
    plain = _weights(smollm | {"quantization_config": _compressed(four)})
    # A row of 576: 288 bytes, 9 scales of 2 and half a byte of zero point for each 64; against 576 and one scale.
    assert mixed.total_bytes - plain.total_bytes == sum(
        rows * (576 + 2) - (rows * (288 + 18) + rows // 8 * 9 * 4 + 16) for rows in (576, 192, 192)
    )


def test_what_is_ignored_by_a_pattern_stays_as_it_is(smollm: dict[str, Any]) -> None:
    stated = _compressed(_group(8, ["Linear"], strategy="channel"))
    stated["ignore"] = ["lm_head", "re:.*down_proj"]

    weights = _weights(smollm | {"quantization_config": stated})

    assert not [name for name in weights.formats if name.endswith("down_proj")]


def test_fp8_has_one_scale_a_matrix_or_one_for_each_block(llama_8b: dict[str, Any]) -> None:
    stated = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    linear = sum(matrix.outputs * matrix.inputs for matrix in read_shape(llama_8b).matrices)

    blocks = _weights(llama_8b | {"quantization_config": stated})

    assert _weights(llama_8b, "fp8").layer_bytes == linear + 4 * 7 * 32
    assert blocks.layer_bytes == linear + 4 * linear // 128**2
    assert blocks.arithmetic == "fp8"


def test_what_the_engine_computes_in_wins_over_what_is_stored(smollm: dict[str, Any]) -> None:
    assert _weights(smollm, auto="float32").name == "fp32"
    assert _weights(smollm, auto="float32").total_bytes == 2 * 269_030_016
    assert _weights(smollm, "bf16", auto="float32").name == "bf16"


def test_an_output_layer_that_nothing_excepts_is_quantized_too(llama_8b: dict[str, Any]) -> None:
    stated = _compressed(_group(8, ["Linear"], strategy="channel"))
    stated["ignore"] = []

    assert _weights(llama_8b | {"quantization_config": stated}).output_bytes == 128256 * 4096 + 2 * 128256
    assert _weights(llama_8b | {"quantization_config": stated | {"ignore": ["lm_head"]}}).output_bytes == (
        2 * 128256 * 4096
    )


def test_routers_are_not_quantized(llama_8b: dict[str, Any]) -> None:
    mixtral = llama_8b | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}

    assert not [name for name in _weights(mixtral, "int4").formats if name.endswith(".gate")]


@pytest.mark.parametrize(
    ("stated", "precision", "told"),
    [
        pytest.param(None, "int3", "no precision named 'int3': known are auto, fp32", id="unknown"),
        pytest.param({"quant_method": "bitsandbytes"}, "auto", "by 'bitsandbytes': known are", id="method"),
        pytest.param({"quant_method": "gptq", "bits": 3}, "auto", "gptq with 3 bits", id="bits"),
        pytest.param({"quant_method": "gptq", "dynamic": {"-:lm_head": {}}}, "auto", "or by layer", id="by layer"),
        pytest.param({"quant_method": "fp8", "weight_block_size": "128"}, "auto", "blocks of '128'", id="blocks"),
        pytest.param(
            {"quant_method": "compressed-tensors", "config_groups": {"a": 1}}, "auto", "no config", id="no group"
        ),
        pytest.param({"quant_method": "gptq"}, "fp8", "is int4, gptq already: leave --precision", id="twice"),
        pytest.param({"quant_method": "compressed-tensors"}, "auto", "no config_groups", id="groups"),
        pytest.param(_compressed(_group(2, ["Linear"])), "auto", "weights of 2 bits", id="two bits"),
    ],
)
def test_what_cannot_be_counted_is_one_line(stated: dict[str, Any] | None, precision: str, told: str) -> None:
    config = TINY if stated is None else TINY | {"quantization_config": stated}

    with pytest.raises(PlanError, match=told):
        _weights(config, precision)
