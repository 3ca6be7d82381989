"""What is saved is read by transformers, with the same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from training.errors import TrainingError
from training.model.saving import NotServable, load_decoder, save_decoder

SHAPES = [
    pytest.param({}, "LlamaForCausalLM", id="grouped"),
    pytest.param({"kv_heads": 4, "tied": False, "rope_base": 500.0}, "LlamaForCausalLM", id="untied"),
    pytest.param({"window": 6}, "MistralForCausalLM", id="window"),
    pytest.param({"experts": 4}, "MixtralForCausalLM", id="experts"),
    pytest.param({"experts": 3, "experts_per_token": 1, "window": 5}, "MixtralForCausalLM", id="experts-window"),
]


@pytest.mark.parametrize(("settings", "architecture"), SHAPES)
def test_transformers_computes_the_same_logits(
    settings: dict[str, Any], architecture: str, make_model: Any, load_hub_model: Any, ids_BL: torch.Tensor
) -> None:
    model = make_model(**settings)

    loaded = load_hub_model(model)

    assert type(loaded).__name__ == architecture
    with torch.inference_mode():
        torch.testing.assert_close(loaded(ids_BL).logits, model(ids_BL), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("settings", "architecture"), SHAPES)
def test_it_is_read_back_to_the_bit(
    settings: dict[str, Any], architecture: str, make_model: Any, tmp_path: Path
) -> None:
    model = make_model(**settings)
    save_decoder(model, tmp_path)

    again = load_decoder(tmp_path)

    assert again.config == model.config
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [architecture]
    ours, read = model.state_dict(), again.state_dict()
    assert all(torch.equal(ours[name], read[name]) for name in ours)


def test_other_types_of_numbers_are_kept(make_model: Any, tmp_path: Path) -> None:
    save_decoder(make_model().to(torch.bfloat16), tmp_path)

    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"norm": "layer"}, r"norm: layer \(it needs rms\)"),
        ({"positions": "learned"}, r"positions: learned \(it needs rope\)"),
        ({"residual": False, "norm_place": "post"}, r"norm_place: post .*, residual: false \(it needs true\)"),
        ({"activation": "gelu"}, r"activation: gelu"),
    ],
)
def test_what_no_engine_serves_is_refused_in_a_line(
    settings: dict[str, Any], named: str, make_model: Any, tmp_path: Path
) -> None:
    with pytest.raises(NotServable, match=named) as raised:
        save_decoder(make_model(**settings), tmp_path)

    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_another_models_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "vocab_size": 3}')

    with pytest.raises(TrainingError, match=r"holds no model of training\.model: its config.json has no 'num_hidden"):
        load_decoder(tmp_path)
