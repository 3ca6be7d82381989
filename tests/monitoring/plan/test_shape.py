"""What models are made of, by their published sizes."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.plan.errors import PlanError
from monitoring.plan.shape import read_shape


def test_parameters_are_those_that_are_published(llama_8b: dict[str, Any], smollm: dict[str, Any]) -> None:
    mixtral = llama_8b | {
        "model_type": "mixtral",
        "vocab_size": 32000,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }
    qwen3 = llama_8b | {
        "model_type": "qwen3",
        "intermediate_size": 12288,
        "head_dim": 128,
        "num_hidden_layers": 36,
        "vocab_size": 151936,
    }

    assert read_shape(llama_8b).num_weights == 8_030_261_248
    assert read_shape(smollm).num_weights == 134_515_008
    assert read_shape(mixtral).num_weights == 46_702_792_704
    assert read_shape(qwen3).num_weights == 8_190_735_360


def test_a_token_passes_only_the_experts_that_it_is_sent_to(llama_8b: dict[str, Any]) -> None:
    mixtral = read_shape(llama_8b | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2})
    expert = 3 * 4096 * 14336

    every = sum(matrix.outputs * matrix.inputs for matrix in mixtral.matrices)

    assert every - mixtral.weights_per_token == 32 * 6 * expert


def test_layers_without_experts_keep_an_mlp_of_their_own(llama_8b: dict[str, Any]) -> None:
    shape = read_shape(
        llama_8b
        | {
            "model_type": "qwen3_moe",
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 512,
            "decoder_sparse_step": 2,
            "mlp_only_layers": [3],
            "num_hidden_layers": 4,
        }
    )

    routed = {matrix.name.split(".")[2] for matrix in shape.matrices if matrix.is_routed}

    assert routed == {"1"}


def test_queries_keys_and_values_of_qwen2_have_biases(llama_8b: dict[str, Any]) -> None:
    shape = read_shape(llama_8b | {"model_type": "qwen2"})

    with_bias = {matrix.name.rpartition(".")[2] for matrix in shape.matrices if matrix.has_bias}

    assert with_bias == {"q_proj", "k_proj", "v_proj"}


def test_a_window_bounds_what_is_kept(llama_8b: dict[str, Any]) -> None:
    mistral = read_shape(llama_8b | {"model_type": "mistral", "sliding_window": 4096})
    half = read_shape(
        llama_8b
        | {
            "model_type": "mistral",
            "sliding_window": 4096,
            "num_hidden_layers": 2,
            "layer_types": ["full_attention", "sliding_attention"],
        }
    )
    unused = read_shape(llama_8b | {"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False})

    assert mistral.kept_tokens(10_000) == 4096
    assert half.kept_tokens(10_000) == (10_000 + 4096) / 2
    assert unused.kept_tokens(10_000) == 10_000


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({"model_type": "bert"}, "does not know the model type 'bert': known are llama", id="encoder"),
        pytest.param({"kv_lora_rank": 512}, "compressed keys and values", id="mla"),
        pytest.param({"hidden_size": None}, "no usable hidden_size", id="missing"),
        pytest.param({"num_hidden_layers": "32"}, "no usable num_hidden_layers: '32'", id="text"),
        pytest.param({"vocab_size": 0}, "no usable vocab_size: 0", id="zero"),
        pytest.param({"num_hidden_layers": 10**9}, "no usable num_hidden_layers: 1000000000", id="slip"),
        pytest.param({"num_attention_heads": True}, "no usable num_attention_heads", id="truth"),
    ],
)
def test_what_cannot_be_counted_is_one_line(llama_8b: dict[str, Any], change: dict[str, Any], told: str) -> None:
    with pytest.raises(PlanError, match=told):
        read_shape(llama_8b | change)
