"""The memory that training a Llama-shaped model takes in each process, by formula: nothing is loaded.

Every process holds the whole model (data parallelism), or with `sharding: full` its share and the layers at work; what
it calculates is divided among them. Bytes a number: 4 for weights, gradients and each of Adam's two means; products
are calculated in 2 (bf16) or 4, and so are their inputs kept for the backward pass.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import RecipeError
from training.recipes.sections import GradientRecipe, LoraSettings

FP32, BF16 = 4, 2


@dataclass(frozen=True)
class Shape:
    """Of a Llama-shaped model: two matrices a token, seven in each layer."""

    layers: int
    width: int
    kv_width: int
    """Of keys and values, all heads together."""
    hidden: int
    vocab_size: int
    is_tied: bool

    @classmethod
    def of(cls, config: dict[str, Any]) -> Shape:
        """From a model's config.json; raises RecipeError where it has another shape."""
        try:
            heads, width = config["num_attention_heads"], config["hidden_size"]
            head_width = config.get("head_dim") or width // heads
            return cls(
                layers=config["num_hidden_layers"],
                width=width,
                kv_width=head_width * (config.get("num_key_value_heads") or heads),
                hidden=config["intermediate_size"],
                vocab_size=config["vocab_size"],
                is_tied=bool(config.get("tie_word_embeddings", False)),
            )
        except (KeyError, TypeError, ZeroDivisionError) as error:
            raise RecipeError(
                f"memory is computed only for Llama-shaped models: config.json has no usable {error}"
            ) from None

    @classmethod
    def read(cls, folder: Path) -> Shape:
        return cls.of(json.loads((folder / "config.json").read_bytes()))

    def linear(self) -> list[tuple[int, int]]:
        """In and out of a layer's matrices: query, key, value, output; gate, up, down."""
        d, kv, f = self.width, self.kv_width, self.hidden
        return [(d, d), (d, kv), (d, kv), (d, d), (d, f), (d, f), (f, d)]

    def num_weights(self) -> int:
        return self.layers * self.weights_of_layer() + self.weights_around()

    def weights_of_layer(self) -> int:
        return sum(i * o for i, o in self.linear()) + 2 * self.width

    def weights_around(self) -> int:
        """Embeddings, output layer and the last norm."""
        return self.vocab_size * self.width * (1 if self.is_tied else 2) + self.width


@dataclass(frozen=True)
class Memory:
    """Bytes in each process."""

    num_weights: int
    num_trained: int
    weights: int
    products: int
    """Of the weights as they are multiplied with, where that is another type, or gathered from other processes."""
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.products + self.gradients + self.optimizer + self.activations

    def lines(self) -> list[str]:
        rows = {
            "weights": self.weights,
            "weights at work": self.products,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations": self.activations,
            "together": self.total,
        }
        numbers = f"{self.num_weights / 1e9:.2f} billion weights, {self.num_trained / 1e6:.1f} million trained"
        return [numbers, *(f"{name}: {size / 1e9:.1f} GB" for name, size in rows.items())]


def training_memory(shape: Shape, recipe: GradientRecipe, max_tokens: int, on_gpu: bool, processes: int = 1) -> Memory:
    """Of a recipe that trains all weights or a LoRA adapter, with examples as long as they may be."""
    adapter = getattr(recipe, "adapter", None)
    if adapter is not None and (not isinstance(adapter, LoraSettings) or adapter.targets != "all-linear"):
        raise RecipeError("memory is computed only for all weights, and for LoRA on all linear layers")
    count = shape.num_weights()
    trained = count
    if adapter is not None:
        trained = shape.layers * sum(adapter.rank * (i + o) for i, o in shape.linear())
    # As `compute_dtype`: a GPU calculates in bf16 unless told otherwise.
    calculated = BF16 if recipe.precision in ("bf16", "fp16") or (recipe.precision == "auto" and on_gpu) else FP32
    tokens = recipe.micro_batch_size * max_tokens
    is_sharded = getattr(recipe, "sharding", "none") == "full"
    shares = processes if is_sharded else 1
    products = BF16 * count if calculated == BF16 else 0
    if is_sharded:
        # Gathered: what lies around the layers until the step ends, a layer, and the next one while it is calculated.
        products = calculated * (shape.weights_around() + 2 * shape.weights_of_layer())
    return Memory(
        num_weights=count,
        num_trained=trained,
        weights=FP32 * (count + (trained if adapter is not None else 0)) // shares,
        products=products,
        gradients=FP32 * trained // shares,
        optimizer=2 * FP32 * trained // shares,
        activations=tokens * activation_bytes(shape, calculated, has_adapter=adapter is not None),
    )


def activation_bytes(shape: Shape, calculated: int, has_adapter: bool) -> int:
    """What the backward pass needs of each token; attention's own squares are not kept (flash attention).

    Of a layer: what its norms make in fp32, and what they read where they are trained; the inputs of the matrices, in
    bf16 a copy for each; queries, keys and values; gate, up, their activation and product. Of the end: a norm, the
    output layer's input, and logits, which are held in both types and as a gradient.
    """
    d, kv, f = shape.width, shape.kv_width, shape.hidden
    norm = FP32 * d * (1 if has_adapter else 2)
    # Autocast copies its input for each of query, key, value, gate and up, and for an adapter at the output; in fp32
    # they share two.
    inputs = calculated * d * (3 if calculated == FP32 else 7 if has_adapter else 6)
    attention = calculated * (d + 2 * kv)
    end = calculated * d + shape.vocab_size * (calculated + 2 * FP32) + (0 if has_adapter else norm)
    return shape.layers * (2 * norm + inputs + attention + calculated * 4 * f) + end
