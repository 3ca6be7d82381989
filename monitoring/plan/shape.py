"""What a model is made of, from its `config.json`: every matrix by name, so that its bytes can be counted.

Decoders with grouped-query attention and a gated MLP, dense or with routed experts. Others are refused by name: a wrong
count would look as right as a true one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from monitoring.plan.errors import PlanError

DENSE = ("llama", "mistral", "ministral", "qwen2", "qwen3", "smollm3", "phi3", "granite")
ROUTED = ("mixtral", "qwen2_moe", "qwen3_moe")

# Of layers and of experts: beyond, a slip of the pen would be counted matrix by matrix.
_MOST = 4096

# These have biases at query, key and value whatever their configuration says.
_WITH_QKV_BIAS = ("qwen2", "qwen2_moe")
_WITH_QK_NORM = ("qwen3", "qwen3_moe")
_WINDOWED = ("mistral", "ministral", "mixtral", "phi3")


@dataclass(frozen=True, slots=True)
class Matrix:
    """A linear layer."""

    name: str
    """As the checkpoint's quantization names it: `model.layers.0.mlp.down_proj`."""
    outputs: int
    inputs: int
    has_bias: bool = False
    is_routed: bool = False
    """One of several experts', read by the tokens that are sent to it."""


@dataclass(frozen=True)
class Experts:
    """Routed MLPs in place of one."""

    count: int
    per_token: int
    hidden: int
    shared_hidden: int
    """Of the MLP that every token passes beside them; 0: none."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder."""

    model_type: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    """Of the MLP, in layers without experts."""
    vocab_size: int
    is_tied: bool
    """Whether the output layer is the embedding."""
    attention_bias: bool
    mlp_bias: bool
    context: int
    """Tokens of prompt and answer together."""
    windows: tuple[int | None, ...]
    """For each layer, how many tokens back it looks; None: all."""
    experts: Experts | None
    routed_layers: frozenset[int]
    dtype: str | None
    """Of the weights, as the configuration names it."""

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """Every linear layer but the output layer."""
        return tuple(matrix for layer in range(self.layers) for matrix in self._of_layer(layer))

    @property
    def output(self) -> Matrix:
        """From a token's last state to the vocabulary."""
        return Matrix("lm_head", self.vocab_size, self.width)

    @property
    def norm_weights(self) -> int:
        """Two norms a layer and one behind, and those of queries and keys where there are any."""
        of_heads = 2 * self.head_width * self.layers if self.model_type in _WITH_QK_NORM else 0
        return (2 * self.layers + 1) * self.width + of_heads

    @cached_property
    def num_weights(self) -> int:
        """Parameters, tied ones once."""
        linear = sum(m.outputs * m.inputs + (m.outputs if m.has_bias else 0) for m in self.matrices)
        return linear + self.vocab_size * self.width * (1 if self.is_tied else 2) + self.norm_weights

    @cached_property
    def weights_per_token(self) -> int:
        """Parameters that one token is multiplied with in the layers: of routed experts, those it is sent to."""
        routed = sum(m.outputs * m.inputs for m in self.matrices if m.is_routed)
        always = sum(m.outputs * m.inputs for m in self.matrices if not m.is_routed)
        return always + (routed * self.experts.per_token // self.experts.count if self.experts else 0)

    def kept_tokens(self, tokens: float) -> float:
        """Tokens whose keys and values are held or read, mean over the layers."""
        if not self._has_windows:
            return tokens
        kept = sum(tokens if window is None else min(tokens, window) for window in self.windows)
        return kept / self.layers

    @cached_property
    def _has_windows(self) -> bool:
        return any(self.windows)

    def kv_numbers(self) -> int:
        """Numbers that a token leaves in the cache, all layers together."""
        return 2 * self.layers * self.kv_heads * self.head_width

    def _of_layer(self, layer: int) -> Iterator[Matrix]:
        at, query, kv = f"model.layers.{layer}", self.heads * self.head_width, self.kv_heads * self.head_width
        qkv_bias = self.attention_bias or self.model_type in _WITH_QKV_BIAS
        yield Matrix(f"{at}.self_attn.q_proj", query, self.width, qkv_bias)
        yield Matrix(f"{at}.self_attn.k_proj", kv, self.width, qkv_bias)
        yield Matrix(f"{at}.self_attn.v_proj", kv, self.width, qkv_bias)
        yield Matrix(f"{at}.self_attn.o_proj", self.width, query, self.attention_bias)
        if self.experts is None or layer not in self.routed_layers:
            yield from self._mlp(f"{at}.mlp", self.hidden, self.mlp_bias)
            return
        mlp = f"{at}.block_sparse_moe" if self.model_type == "mixtral" else f"{at}.mlp"
        yield Matrix(f"{mlp}.gate", self.experts.count, self.width)
        for expert in range(self.experts.count):
            yield from self._mlp(f"{mlp}.experts.{expert}", self.experts.hidden, False, is_routed=True)
        if self.experts.shared_hidden:
            yield from self._mlp(f"{mlp}.shared_expert", self.experts.shared_hidden, False)
            yield Matrix(f"{mlp}.shared_expert_gate", 1, self.width)

    def _mlp(self, at: str, hidden: int, bias: bool, is_routed: bool = False) -> Iterator[Matrix]:
        yield Matrix(f"{at}.gate_proj", hidden, self.width, bias, is_routed)
        yield Matrix(f"{at}.up_proj", hidden, self.width, bias, is_routed)
        yield Matrix(f"{at}.down_proj", self.width, hidden, bias, is_routed)


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The sizes that `config.json` states; raises PlanError for what is none of the known kinds, or states none."""
    model_type = config.get("model_type")
    if config.get("kv_lora_rank"):
        raise PlanError(f"{model_type} keeps compressed keys and values (MLA), which plan does not compute")
    if model_type not in DENSE + ROUTED:
        raise PlanError(f"plan does not know the model type {model_type!r}: known are {', '.join(DENSE + ROUTED)}")
    heads, width = _size(config, "num_attention_heads"), _size(config, "hidden_size")
    layers = _size(config, "num_hidden_layers", most=_MOST)
    experts = _experts(config) if model_type in ROUTED else None
    head_width = _size(config, "head_dim", default=max(width // heads, 1))
    return Shape(
        model_type=str(model_type),
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=_size(config, "num_key_value_heads", default=heads),
        head_width=head_width,
        hidden=_size(config, "intermediate_size"),
        vocab_size=_size(config, "vocab_size"),
        is_tied=bool(config.get("tie_word_embeddings", False)),
        attention_bias=bool(config.get("attention_bias", False)),
        mlp_bias=bool(config.get("mlp_bias", False)),
        context=_size(config, "max_position_embeddings", default=4096),
        windows=_windows(config, str(model_type), layers),
        experts=experts,
        routed_layers=_routed_layers(config, layers) if experts else frozenset(),
        dtype=next((str(config[key]) for key in ("dtype", "torch_dtype") if config.get(key)), None),
    )


def _size(config: Mapping[str, Any], *keys: str, default: int | None = None, most: int = 10_000_000) -> int:
    """The first of the keys that is stated, a number above 0 and at most `most`."""
    value = next((config[key] for key in keys if config.get(key) is not None), default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise PlanError(f"config.json has no usable {keys[0]}: {value!r}")
    return value


def _experts(config: Mapping[str, Any]) -> Experts:
    count = _size(config, "num_local_experts", "num_experts", most=_MOST)
    return Experts(
        count=count,
        per_token=min(_size(config, "num_experts_per_tok"), count),
        hidden=_size(config, "moe_intermediate_size", "intermediate_size"),
        shared_hidden=_size(config, "shared_expert_intermediate_size") if _has_shared(config) else 0,
    )


def _has_shared(config: Mapping[str, Any]) -> bool:
    return bool(config.get("shared_expert_intermediate_size"))


def _routed_layers(config: Mapping[str, Any], layers: int) -> frozenset[int]:
    step, dense = _size(config, "decoder_sparse_step", default=1), config.get("mlp_only_layers") or []
    return frozenset(layer for layer in range(layers) if layer not in dense and (layer + 1) % step == 0)


def _windows(config: Mapping[str, Any], model_type: str, layers: int) -> tuple[int | None, ...]:
    window, kinds = config.get("sliding_window"), config.get("layer_types")
    # Qwen states a window that it does not use unless it says so beside.
    used = config.get("use_sliding_window", model_type in _WINDOWED)
    if not isinstance(window, int) or not used:
        return (None,) * layers
    if isinstance(kinds, list) and len(kinds) == layers:
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    first = config.get("max_window_layers", 0) if model_type.startswith("qwen") else 0
    return tuple(window if layer >= first else None for layer in range(layers))
