from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from training.errors import RecipeError
from training.jobs.memory import Shape, activation_bytes, training_memory
from training.methods import adapters
from training.recipes import load_recipe
from training.recipes.sections import GradientRecipe, LoraSettings

RECIPES = Path(__file__).parents[3] / "recipes"
DOCS = Path(__file__).parents[3] / "docs"

# Llama 2's of seven billion.
SEVEN = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}
SMALL = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
}


def recipe(*overrides: str) -> GradientRecipe:
    found = load_recipe(RECIPES / "medical-7b.yaml", overrides)
    assert isinstance(found, GradientRecipe)
    return found


def small_model(tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=tied, attn_implementation="sdpa"))


@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_counted_as_the_model_has_them(tied: bool) -> None:
    shape = Shape.of({**SMALL, "tie_word_embeddings": tied})

    assert shape.num_weights() == sum(parameter.numel() for parameter in small_model(tied).parameters())


def test_a_lora_adapter_is_counted_as_peft_makes_it() -> None:
    model = adapters.attach(small_model(), LoraSettings(rank=4))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)

    found = training_memory(Shape.of(SMALL), recipe("adapter.rank=4"), 32, on_gpu=False)

    assert (found.num_trained, found.gradients, found.optimizer) == (trained, 4 * trained, 8 * trained)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("has_adapter", [False, True])
def test_activations_are_what_is_saved_for_the_backward_pass(has_adapter: bool, dtype: torch.dtype) -> None:
    """Of a small model, counted where PyTorch saves them: within a twentieth."""
    model: Any = small_model()
    if has_adapter:
        model = adapters.attach(model, LoraSettings(rank=4))
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    ids_BL = torch.randint(500, (2, 64))
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16),
    ):
        model(input_ids=ids_BL, use_cache=False)
    # Begins with the batch's two rows or its 128 tokens; all else are weights.
    of_tokens = [storage.untyped_storage() for storage in kept if storage.shape[0] in (2, 128)]
    saved = sum({tensor.data_ptr(): tensor.nbytes() for tensor in of_tokens}.values()) / 128
    without_logits = activation_bytes(Shape.of(SMALL), dtype.itemsize, has_adapter) - 500 * (dtype.itemsize + 8)

    assert saved == pytest.approx(without_logits, rel=0.05)


def test_seven_billion_weights() -> None:
    """What the page on it says."""
    whole = training_memory(Shape.of(SEVEN), recipe("adapter=null", "output=merged"), 1024, on_gpu=True)
    lora = training_memory(Shape.of(SEVEN), recipe(), 1024, on_gpu=True)
    everything = ("adapter=null", "output=merged", "sharding=full")
    sharded = training_memory(Shape.of(SEVEN), recipe(*everything), 1024, on_gpu=True, processes=8)
    page = (DOCS / "guides" / "scale_out.md").read_text()

    assert whole.num_weights == 6_738_415_616
    assert sharded.optimizer == whole.optimizer // 8
    for found in (whole, sharded, lora):
        cells = (found.weights, found.products, found.gradients, found.optimizer, found.activations, found.total)
        assert " | ".join(f"{size / 1e9:.1f} GB" for size in cells) in page


@pytest.mark.parametrize("overrides", [("adapter=ia3",), ("adapter.targets=[q_proj]",)])
def test_other_adapters_are_refused(overrides: tuple[str, ...]) -> None:
    with pytest.raises(RecipeError, match="computed only for all weights, and for LoRA on all linear layers"):
        training_memory(Shape.of(SMALL), recipe(*overrides), 32, on_gpu=False)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"Llama-shaped models: config\.json has no usable 'num_attention_heads'"):
        Shape.of({"hidden_size": 4})
