import json
from pathlib import Path
from typing import Any

import pytest
import torch

from training.errors import RecipeError
from training.evaluate import Source
from training.evaluate.loading import load_model, load_tokenizer
from training.recipes import LoraSettings, lora
from training.registry import CheckpointRef

IDS = torch.tensor([[1, 50, 60, 70, 2]])


@pytest.fixture
def base(tiny_model_folder: Path) -> Source:
    return Source(tiny_model_folder, CheckpointRef(ref="tiny", digest="sha256:" + "0" * 64))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def disturb(model: Any) -> None:
    """Give the adapters something to do, as training would."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn_like(parameter) * 0.3


def test_fresh_adapter_changes_nothing_and_alone_is_trained(base: Source) -> None:
    before = logits(load_model(base))

    model = lora.attach(load_model(base), LoraSettings())

    assert torch.equal(logits(model), before)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)


def test_unknown_target_is_one_line(base: Source) -> None:
    with pytest.raises(RecipeError, match=r"lora\.targets: [^\n]*nothing_like_it[^\n]*$"):
        lora.attach(load_model(base), LoraSettings(targets=["nothing_like_it"]))


def test_merged_model_answers_as_the_adapter_does(base: Source) -> None:
    model = lora.attach(load_model(base), LoraSettings())
    disturb(model)
    expected = logits(model)

    merged = lora.merge(model, torch.float32)

    assert torch.allclose(logits(merged), expected, atol=1e-4)
    assert not torch.allclose(logits(load_model(base)), expected, atol=1e-2)


def test_saved_model_is_what_was_measured(base: Source, tmp_path: Path) -> None:
    model = lora.attach(load_model(base), LoraSettings())
    disturb(model)
    merged = lora.merge(model, torch.bfloat16)
    measured = logits(merged)

    lora.save_merged(merged, base.path, tmp_path, torch.bfloat16)

    again = load_model(Source(tmp_path, base.identity))
    assert torch.equal(logits(again), measured)
    assert (tmp_path / "tokenizer.json").read_bytes() == (base.path / "tokenizer.json").read_bytes()
    assert load_tokenizer(tmp_path).chat_template == load_tokenizer(base.path).chat_template
    assert (tmp_path / "generation_config.json").exists()


def test_saved_adapter_loads_on_its_base(base: Source, tmp_path: Path) -> None:
    model = lora.attach(load_model(base), LoraSettings())
    disturb(model)

    lora.save_adapter(model, base, tmp_path)

    again = load_model(Source(tmp_path, base.identity, base=base))
    assert torch.equal(logits(again), logits(model))
    assert not (tmp_path / "model.safetensors").exists()
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
