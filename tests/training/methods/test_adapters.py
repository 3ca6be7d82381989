import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from training.errors import RecipeError, SourceError
from training.evaluate import Source
from training.evaluate.loading import load_chat_tokenizer, load_model
from training.methods import adapters
from training.recipes.sections import BottleneckSettings, Ia3Settings, LoraSettings, PrefixSettings
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

    model = adapters.attach(load_model(base), LoraSettings())

    assert torch.equal(logits(model), before)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)


def test_unknown_target_is_one_line(base: Source) -> None:
    with pytest.raises(RecipeError, match=r"adapter\.targets: [^\n]*nothing_like_it[^\n]*$"):
        adapters.attach(load_model(base), LoraSettings(targets=["nothing_like_it"]))


def test_merged_model_answers_as_the_adapter_does(base: Source) -> None:
    model = adapters.attach(load_model(base), LoraSettings())
    disturb(model)
    expected = logits(model)

    merged = adapters.fold(model)

    assert torch.allclose(logits(merged), expected, atol=1e-4)
    assert not torch.allclose(logits(load_model(base)), expected, atol=1e-2)


def test_saved_model_is_what_was_measured(base: Source, tmp_path: Path) -> None:
    model = adapters.attach(load_model(base), LoraSettings())
    disturb(model)
    merged = adapters.fold(model)
    adapters.round_to(merged, torch.bfloat16)
    measured = logits(merged)

    adapters.save_merged(merged, base.path, tmp_path, torch.bfloat16)

    again = load_model(Source(tmp_path, base.identity))
    assert torch.equal(logits(again), measured)
    assert (tmp_path / "tokenizer.json").read_bytes() == (base.path / "tokenizer.json").read_bytes()
    assert load_chat_tokenizer(tmp_path).chat_template == load_chat_tokenizer(base.path).chat_template
    assert (tmp_path / "generation_config.json").exists()


def test_saved_adapter_loads_on_its_base(base: Source, tmp_path: Path) -> None:
    model = adapters.attach(load_model(base), LoraSettings())
    disturb(model)

    adapters.save_adapter(model, base, tmp_path)

    again = load_model(Source(tmp_path, base.identity, base=base))
    assert torch.equal(logits(again), logits(model))
    assert not (tmp_path / "model.safetensors").exists()
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"


ODD_GENERATION_CONFIGS = [
    pytest.param('{"temperature": 0.6, "top_p": 0.9}', id="sampling without do_sample"),
    pytest.param('{"do_sample": false, "temperature": 0.0}', id="temperature 0"),
    pytest.param('{"pad_token_id": -1, "max_length": 3, "early_stopping": true}', id="beam search alone"),
    pytest.param(None, id="none"),
]


@pytest.mark.parametrize("odd", ODD_GENERATION_CONFIGS)
def test_an_odd_generation_config_of_the_base_loses_nothing(base: Source, tmp_path: Path, odd: str | None) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base.path, folder)
    file = folder / "generation_config.json"
    file.unlink(missing_ok=True)
    if odd is not None:
        file.write_text(odd)
    model = load_model(Source(folder, base.identity))
    (tmp_path / "made").mkdir()

    adapters.save_merged(model, folder, tmp_path / "made", torch.bfloat16)

    kept = tmp_path / "made" / "generation_config.json"
    assert (kept.read_text() if kept.exists() else None) == odd


@pytest.fixture
def tied(base: Source, tmp_path: Path) -> Source:
    """The same model with one weight for input and output embeddings."""
    folder = tmp_path / "tied"
    shutil.copytree(base.path, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    return Source(folder, base.identity)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_tied_embeddings_are_parted_before_one_is_trained(tied: Source, tmp_path: Path, target: str) -> None:
    settings = LoraSettings(targets=["q_proj", target])
    model = load_model(tied)
    before = logits(model)
    adapters.untie_for(model, settings, "merged")
    assert torch.equal(logits(model), before)
    adapted = adapters.attach(model, settings)
    disturb(adapted)
    expected = logits(adapted)

    merged = adapters.fold(adapted)
    (tmp_path / "made").mkdir()
    adapters.save_merged(merged, tied.path, tmp_path / "made", torch.float32)

    assert torch.allclose(logits(merged), expected, atol=1e-4)
    assert torch.allclose(logits(load_model(Source(tmp_path / "made", tied.identity))), expected, atol=1e-4)


def test_an_adapter_alone_is_refused_on_a_tied_weight(tied: Source) -> None:
    with pytest.raises(RecipeError, match="this model shares lm_head between input and output"):
        adapters.untie_for(load_model(tied), LoraSettings(targets=["lm_head"]), "adapter")


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj"]])
def test_what_touches_no_shared_weight_stays_tied(tied: Source, targets: Any) -> None:
    model = load_model(tied)

    adapters.untie_for(model, LoraSettings(targets=targets), "adapter")

    assert model.config.tie_word_embeddings


def disturb_all(model: Any) -> None:
    """As `disturb`, for any kind: only what is trained."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.2


@pytest.mark.parametrize(
    "settings",
    [
        LoraSettings(kind="dora"),
        Ia3Settings(kind="ia3"),
        Ia3Settings(kind="ia3", targets=["v_proj", "down_proj"], feed_forward=["down_proj"]),
    ],
)
def test_every_kind_that_folds_answers_the_same(base: Source, settings: Any) -> None:
    before = logits(load_model(base))
    model = adapters.attach(load_model(base), settings)
    assert torch.allclose(logits(model), before, atol=1e-4)
    disturb_all(model)
    expected = logits(model)
    assert not torch.allclose(before, expected, atol=1e-2)

    assert torch.allclose(logits(adapters.fold(model)), expected, atol=1e-3)


def test_a_prefix_stays_an_adapter(base: Source, tmp_path: Path) -> None:
    model = adapters.attach(load_model(base), PrefixSettings(kind="prefix", tokens=3))
    disturb_all(model)
    expected = logits(model)
    assert not torch.allclose(logits(load_model(base)), expected, atol=1e-2)

    adapters.save_adapter(model, base, tmp_path)

    again = load_model(Source(tmp_path, base.identity, base=base))
    assert torch.allclose(logits(again), expected, atol=1e-5)
    with pytest.raises(RecipeError, match="a prefix cannot be folded into weights"):
        adapters.fold(model)


BOTTLENECK = BottleneckSettings(kind="bottleneck", width=4)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (BOTTLENECK, 4),
        (BottleneckSettings(kind="bottleneck", width=4, behind="feed-forward"), 2),
        (BottleneckSettings(kind="bottleneck", width=4, targets=["1.mlp.down_proj"]), 1),
    ],
)
def test_bottlenecks_start_as_no_change_and_are_loaded_again(
    base: Source, tmp_path: Path, settings: BottleneckSettings, count: int
) -> None:
    before = logits(load_model(base))
    model = adapters.attach(load_model(base), settings)
    assert torch.equal(logits(model), before)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 4 * count  # two layers, each with weight and bias
    disturb_all(model)
    expected = logits(model)
    assert not torch.allclose(before, expected, atol=1e-2)

    adapters.save_adapter(model, base, tmp_path)

    again = load_model(Source(tmp_path, base.identity, base=base))
    assert torch.equal(logits(again), expected)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["base_model_name_or_path"]) == ("BOTTLENECK", "tiny")
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 10_000
    with pytest.raises(RecipeError, match="a bottleneck is not linear and cannot be folded"):
        adapters.fold(model)


def test_bottlenecks_that_do_not_fit_are_one_line(base: Source, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^adapter\.targets: the model has no linear module nothing_like_it$"):
        adapters.attach(load_model(base), BottleneckSettings(kind="bottleneck", targets=["o_proj", "nothing_like_it"]))

    adapters.save_adapter(adapters.attach(load_model(base), BOTTLENECK), base, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "width": 5}))
    with pytest.raises(SourceError, match="cannot be loaded: its tensors are not this model's bottlenecks"):
        load_model(Source(tmp_path, base.identity, base=base))
