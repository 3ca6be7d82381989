from dataclasses import replace
from typing import Any

import pytest

from training.model import ModelConfig

PLAIN = ModelConfig(vocab_size=100, layers=2, width=16, heads=4, kv_heads=2, hidden=24, context=32)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"heads": 3}, "width 16 is not a multiple of heads 3"),
        ({"kv_heads": 3}, "heads 4 are not a multiple of kv_heads 3"),
        ({"heads": 16, "kv_heads": 16}, "rope needs an even head width"),
        ({"positions": "sinusoid", "width": 15, "heads": 5, "kv_heads": 5}, "sinusoid needs an even width"),
        ({"experts": 2, "experts_per_token": 3}, "experts_per_token 3 is not between 1 and experts 2"),
        ({"experts": 2, "activation": "gelu"}, "experts need activation swiglu"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        replace(PLAIN, **changed)


def test_flops_are_six_for_each_weight_and_attention() -> None:
    attention = 16 * 4 * (2 * 4 + 2 * 2)
    weights = 2 * (attention + 3 * 16 * 24) + 16 * 100

    assert PLAIN.num_active_weights() == weights
    assert PLAIN.training_flops_per_token(block=8) == 6 * weights + 12 * 2 * 16 * 8


def test_only_the_experts_of_a_token_are_active() -> None:
    few, many = (replace(PLAIN, experts=count, experts_per_token=2) for count in (2, 8))

    assert many.num_active_weights() - few.num_active_weights() == PLAIN.layers * 6 * PLAIN.width  # the router's
