"""Writes a decoder as Llama, Mistral (with a window) or Mixtral (with experts), and reads it back.

That is `config.json` and `model.safetensors` as the three have them on model hubs, so that transformers, vLLM and
whatever reads these loads ours without knowing of it. What none of the three can say is not written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from training.errors import TrainingError
from training.model.config import ModelConfig
from training.model.decoder import Decoder

WEIGHTS = "model.safetensors"

_OUTSIDE = {"embedding.tokens": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
_IN_BLOCK = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
    "mlp.router": "block_sparse_moe.gate",
}
# Mixtral numbers the projections in the order of Llama's first code: gate, down, up.
_IN_EXPERT = {"gate": "w1", "down": "w2", "up": "w3"}


class NotServable(TrainingError):
    """The model has a part that no architecture of an engine has."""


def require_servable(config: ModelConfig) -> None:
    """Raise NotServable, one line naming each setting, for what `save_decoder` cannot write."""
    wanted = {"positions": "rope", "norm": "rms", "norm_place": "pre", "activation": "swiglu", "residual": True}
    others = [
        f"{name}: {str(value).lower()} (it needs {str(wanted[name]).lower()})"
        for name, value in ((name, getattr(config, name)) for name in wanted)
        if value != wanted[name]
    ]
    if others:
        raise NotServable(f"engines do not serve this shape: {', '.join(others)}")


def save_decoder(model: Decoder, folder: Path, special_tokens: dict[str, int] | None = None) -> None:
    """Write configuration and weights; `special_tokens` are ids such as `eos_token_id`. Raises NotServable."""
    require_servable(model.config)
    written = {**hub_config(model), **(special_tokens or {})}
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n")
    weights = {
        hub_name(name): value.detach().contiguous().cpu()
        for name, value in model.state_dict().items()
        # safetensors stores no tensor twice; `tie_word_embeddings` says that it is the embedding.
        if not (name == "head.weight" and model.config.tied)
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def load_decoder(folder: Path) -> Decoder:
    """Read what `save_decoder` wrote; raises TrainingError for what it did not."""
    config = json.loads((folder / "config.json").read_text())
    try:
        model = Decoder(_our_config(config))
    except KeyError as missing:
        raise TrainingError(f"{folder} holds no model of training.model: its config.json has no {missing}") from None
    stored = load_file(folder / WEIGHTS)
    with torch.no_grad():
        # A tied head is the embedding's parameter, which is named once.
        for name, parameter in model.named_parameters():
            parameter.copy_(stored[hub_name(name)])
    return model


def hub_name(name: str) -> str:
    """What Llama, Mistral and Mixtral call one of our tensors."""
    module, _, leaf = name.rpartition(".")
    if module in _OUTSIDE:
        return f"{_OUTSIDE[module]}.{leaf}"
    _, layer, inner = module.split(".", 2)
    if inner.startswith("mlp.experts."):
        _, _, index, part = inner.split(".")
        return f"model.layers.{layer}.block_sparse_moe.experts.{index}.{_IN_EXPERT[part]}.{leaf}"
    return f"model.layers.{layer}.{_IN_BLOCK[inner]}.{leaf}"


def hub_config(model: Decoder) -> dict[str, Any]:
    """`config.json` as transformers writes it for the architecture that has all that this model has."""
    config = model.config
    kind = "Mixtral" if config.experts else "Mistral" if config.window is not None else "Llama"
    written: dict[str, Any] = {
        "architectures": [f"{kind}ForCausalLM"],
        "model_type": kind.lower(),
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_base,
        "tie_word_embeddings": config.tied,
        # Ours drops what blocks add, in training only; no field of theirs says that.
        "attention_dropout": 0.0,
        "dtype": str(_dtype_of(model)).removeprefix("torch."),
    }
    # Mixtral reads it too; None switches it off there.
    if kind != "Llama":
        written["sliding_window"] = config.window
    if config.experts:
        written |= {"num_local_experts": config.experts, "num_experts_per_tok": config.experts_per_token}
    return written


def _our_config(written: dict[str, Any]) -> ModelConfig:
    return ModelConfig(
        vocab_size=written["vocab_size"],
        layers=written["num_hidden_layers"],
        width=written["hidden_size"],
        heads=written["num_attention_heads"],
        kv_heads=written["num_key_value_heads"],
        hidden=written["intermediate_size"],
        context=written["max_position_embeddings"],
        window=written.get("sliding_window"),
        rope_base=written["rope_theta"],
        norm_epsilon=written["rms_norm_eps"],
        experts=written.get("num_local_experts", 0),
        experts_per_token=written.get("num_experts_per_tok", 2),
        tied=written["tie_word_embeddings"],
    )


def _dtype_of(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype
