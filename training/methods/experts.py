"""Several dense models as the experts of one sparse one, named and shaped as Mixtral (Jiang et al. 2024).

Attention, norms and embeddings are one model's; each layer's feed-forward networks are all of theirs, behind a router
(Komatsuzaki et al. 2023, sparse upcycling, with different experts in place of copies).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoConfig, MixtralConfig

from training.data import Example
from training.errors import SourceError
from training.evaluate.loading import load_model
from training.evaluate.source import Source
from training.methods.agreement import evaluating
from training.methods.tensor_files import TensorFolder, TensorLayout

_FEED_FORWARD = re.compile(r"(model\.layers\.\d+)\.mlp\.(gate|up|down)_proj\.weight")
_CALLED = {"gate": "w1", "up": "w3", "down": "w2"}
_LIKE_MIXTRAL = ("llama", "mistral")
_KEPT = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
         "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "initializer_range",
         "rms_norm_eps", "tie_word_embeddings", "rope_parameters", "sliding_window", "attention_dropout",
         "bos_token_id", "eos_token_id", "pad_token_id", "dtype")  # fmt: skip


def mixtral_config(base: Source, experts: int, per_token: int) -> dict[str, Any]:
    """`config.json` of the mixture; raises SourceError where Mixtral cannot be what the base is."""
    config = AutoConfig.from_pretrained(base.path, local_files_only=True)
    if config.model_type not in _LIKE_MIXTRAL:
        raise SourceError(
            f"{base.identity.ref} is of type {config.model_type}: experts are made of {' or '.join(_LIKE_MIXTRAL)}"
        )
    # With all defaults filled in, since Mixtral's are others.
    known = config.to_dict()
    made = MixtralConfig(
        **{name: known[name] for name in _KEPT if known.get(name) is not None},
        num_local_experts=experts,
        num_experts_per_tok=per_token,
        architectures=["MixtralForCausalLM"],
    )
    made.sliding_window = known.get("sliding_window")
    written: dict[str, Any] = made.to_dict()
    return written


Making = Callable[[str], torch.Tensor]


def mixture(
    base: TensorFolder, parents: Sequence[TensorFolder], routers: Sequence[torch.Tensor] | None, ref: str
) -> tuple[dict[str, TensorLayout], Making]:
    """The mixture's tensors, and what makes each; `routers` of each layer are (experts, width), None for zeros."""
    layouts: dict[str, TensorLayout] = {}
    makers: dict[str, Callable[[], torch.Tensor]] = {}

    def add(name: str, layout: TensorLayout, make: Callable[[], torch.Tensor]) -> None:
        layouts[name] = layout
        makers[name] = make

    for name, layout in base.layout.items():
        if name.endswith(".bias"):
            raise SourceError(f"{ref} has {name}: a Mixtral has no biases")
        match = _FEED_FORWARD.fullmatch(name)
        if match is None:
            add(name, layout, lambda name=name: base[name])  # type: ignore[misc]
            continue
        place = f"{match[1]}.block_sparse_moe"
        for index, parent in enumerate(parents):
            called = f"{place}.experts.{index}.{_CALLED[match[2]]}.weight"
            add(called, layout, lambda parent=parent, name=name: parent[name])  # type: ignore[misc]
        if match[2] == "gate":
            shape = (len(parents), layout.shape[1])
            layer = int(match[1].rpartition(".")[2])
            router = torch.zeros(shape) if routers is None else routers[layer]
            add(f"{place}.gate.weight", TensorLayout(layout.dtype, shape), lambda router=router: router)  # type: ignore[misc]
    return layouts, lambda name: makers[name]()


def routers_from_means(base: Source, domains: Sequence[Sequence[Example]]) -> list[torch.Tensor]:
    """Of each layer: a unit row for each domain, along the mean of what its tokens bring to the feed-forward network.

    What all domains' means share is taken off first: it would tell none of them apart.
    """
    model: Any = load_model(base, torch.float32)
    means_EHs = [_means(model, examples) for examples in domains]
    rows = []
    for of_layer in zip(*means_EHs, strict=True):
        apart_EH = torch.stack(of_layer) - torch.stack(of_layer).mean(0)
        rows.append(apart_EH / apart_EH.norm(dim=-1, keepdim=True).clamp_min(1e-6))
    return rows


def _means(model: Any, examples: Sequence[Example]) -> list[torch.Tensor]:
    """Of each layer, over all tokens."""
    layers = model.model.layers
    sums: list[Any] = [0] * len(layers)

    def keep(index: int) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: torch.Tensor) -> None:
            sums[index] = sums[index] + output[0].sum(0)

        return hook

    hooks = [layer.post_attention_layernorm.register_forward_hook(keep(i)) for i, layer in enumerate(layers)]
    with evaluating(model):
        for example in examples:
            model.model(input_ids=torch.tensor([example.input_ids]), use_cache=False)
    for hook in hooks:
        hook.remove()
    tokens = sum(len(example.input_ids) for example in examples)
    return [total / tokens for total in sums]
