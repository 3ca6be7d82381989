"""What parts of a model say least, measured on text, and the model without them.

What is left is a smaller model of the same architecture, which engines load as any other. Layers: Men et al. 2024,
ShortGPT; channels and heads by the size of what they add to the stream, as in Sun et al. 2023, Wanda.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from training.data import Example
from training.errors import RecipeError
from training.evaluate.perplexity import BATCH_SIZE, collate, total_loss
from training.methods.students import keep_layers
from training.progress import OnProgress
from training.recipes.prune import PruneSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Kernels like widths that are multiples of it.
CHANNEL_STEP = 8


@dataclass(frozen=True)
class Importance:
    """Of the parts of every layer, over the tokens of some text."""

    layers: list[float]
    """Block influence: one minus the cosine between what goes in and what comes out, averaged over tokens."""
    channels: list[torch.Tensor]
    """Of each layer's MLP: mean size of its value times the norm of its output weights, (hidden,)."""
    heads: list[torch.Tensor]
    """The same of each attention head, (heads,)."""


def prune(
    model: PreTrainedModel,
    settings: PruneSettings,
    examples: Sequence[Example],
    pad_token_id: int,
    on_progress: OnProgress,
) -> list[int]:
    """Take out what the settings say, and return which layers went; raises RecipeError where the model has no such."""
    layers = decoder_layers(model)
    _require_parts(model, settings)
    importance = measure(model, examples, pad_token_id, on_progress)
    if settings.hidden:
        size = model.config.intermediate_size
        kept = max(CHANNEL_STEP, CHANNEL_STEP * round(size * (1 - settings.hidden) / CHANNEL_STEP))
        for layer, channels in zip(layers, importance.channels, strict=True):
            keep_channels(layer, _largest(channels, kept))
        model.config.intermediate_size = kept
    if settings.heads:
        keep_head_groups(model, importance.heads, model.config.num_key_value_heads - settings.heads)
    # Last, so that layers are chosen on the model whose channels and heads are gone.
    gone = _weakest_layers(model, settings, importance, examples, pad_token_id, on_progress) if settings.layers else []
    keep_layers(model, [index for index in range(len(layers)) if index not in gone])
    return sorted(gone)


def measure(
    model: PreTrainedModel, examples: Sequence[Example], pad_token_id: int, on_progress: OnProgress
) -> Importance:
    """Read the examples once, and note the size of what every part says."""
    layers = decoder_layers(model)
    probes = [_Probe(layer) for layer in layers]
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(examples), BATCH_SIZE):
                batch = collate(examples[start : start + BATCH_SIZE], pad_token_id, model.device)
                for probe in probes:
                    probe.is_token_BL = batch.attention_mask.bool()
                model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
                on_progress(min(start + BATCH_SIZE, len(examples)), len(examples))
    finally:
        for probe in probes:
            probe.remove()
    head_dim = model.config.head_dim
    return Importance(
        layers=[probe.influence / probe.tokens for probe in probes],
        channels=[_sizes(layer.mlp.down_proj, probe.hidden, 1) for layer, probe in zip(layers, probes, strict=True)],
        heads=[
            _sizes(layer.self_attn.o_proj, probe.attended, head_dim)
            for layer, probe in zip(layers, probes, strict=True)
        ],
    )


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The layers of a Llama-shaped model; raises RecipeError where it has another shape."""
    layers = getattr(getattr(model, "model", None), "layers", None)
    parts = ("self_attn.o_proj", "self_attn.q_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    if isinstance(layers, nn.ModuleList) and all(_has(layer, part) for layer in layers for part in parts):
        return layers
    raise RecipeError(f"prune: {type(model).__name__} is not Llama-shaped and cannot be pruned")


def keep_channels(layer: Any, kept: torch.Tensor) -> None:
    """Leave these channels of a layer's MLP."""
    layer.mlp.gate_proj = _with_rows(layer.mlp.gate_proj, kept)
    layer.mlp.up_proj = _with_rows(layer.mlp.up_proj, kept)
    layer.mlp.down_proj = _with_columns(layer.mlp.down_proj, kept)


def keep_head_groups(model: PreTrainedModel, heads: Sequence[torch.Tensor], groups_kept: int) -> None:
    """Leave so many groups of heads in every layer, those that say most."""
    config = model.config
    groups, per_group = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads
    for layer, sizes in zip(decoder_layers(model), heads, strict=True):
        # Whole groups: the query heads of a group cannot go without their shared keys and values.
        kept = _largest(sizes.view(groups, per_group).sum(1), groups_kept)
        keys = _span(kept, config.head_dim)
        queries = _span(_span(kept, per_group), config.head_dim)
        attention: Any = layer.self_attn
        attention.q_proj = _with_rows(attention.q_proj, queries)
        attention.k_proj, attention.v_proj = _with_rows(attention.k_proj, keys), _with_rows(attention.v_proj, keys)
        attention.o_proj = _with_columns(attention.o_proj, queries)
    config.num_key_value_heads, config.num_attention_heads = groups_kept, groups_kept * per_group


class _Probe:
    """Listens to one layer while text is read."""

    def __init__(self, layer: Any) -> None:
        self.influence, self.tokens = 0.0, 0
        self.hidden = torch.zeros(layer.mlp.down_proj.in_features)
        self.attended = torch.zeros(layer.self_attn.o_proj.in_features)
        self.is_token_BL = torch.zeros(0)
        self._hooks = [
            layer.register_forward_hook(self._layer, with_kwargs=True),
            layer.mlp.down_proj.register_forward_pre_hook(self._down),
            layer.self_attn.o_proj.register_forward_pre_hook(self._out),
        ]

    def _layer(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        before = (inputs[0] if inputs else named["hidden_states"])[self.is_token_BL]
        after = (output[0] if isinstance(output, tuple) else output)[self.is_token_BL]
        # In fp32, since most layers hardly turn the stream: 1 - cosine is a small difference of near numbers.
        self.influence += float((1 - cosine_similarity(before.float(), after.float(), dim=-1)).sum())
        self.tokens += len(before)

    def _down(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.hidden += inputs[0][self.is_token_BL].float().abs().sum(0).cpu()

    def _out(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.attended += inputs[0][self.is_token_BL].float().abs().sum(0).cpu()

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


def _weakest_layers(
    model: PreTrainedModel,
    settings: PruneSettings,
    importance: Importance,
    examples: Sequence[Example],
    pad_token_id: int,
    on_progress: OnProgress,
) -> list[int]:
    if isinstance(settings.layers, list):
        return settings.layers
    if settings.layers_by == "influence":
        order = sorted(range(len(importance.layers)), key=importance.layers.__getitem__)
        return order[: settings.layers]
    inner: Any = model.model
    whole = inner.layers
    gone: list[int] = []
    try:
        for done in range(settings.layers):
            # Anew after each layer that went: which one is missed least depends on those that are left.
            losses = {}
            for candidate in (index for index in range(len(whole)) if index not in gone):
                inner.layers = nn.ModuleList(
                    layer for index, layer in enumerate(whole) if index != candidate and index not in gone
                )
                losses[candidate] = total_loss(model, examples, pad_token_id)
            gone.append(min(losses, key=losses.__getitem__))
            on_progress(done + 1, settings.layers)
    finally:
        inner.layers = whole
    return gone


def _require_parts(model: PreTrainedModel, settings: PruneSettings) -> None:
    layers = settings.layers
    if isinstance(layers, list):
        unknown = [index for index in layers if index >= model.config.num_hidden_layers]
        if unknown or len(set(layers)) < len(layers):
            last = model.config.num_hidden_layers - 1
            raise RecipeError(f"prune.layers: list each layer once, 0 to {last}")
        layers = len(layers)
    for name, wanted, count in (
        ("layers", layers, model.config.num_hidden_layers),
        ("heads", settings.heads, model.config.num_key_value_heads),
    ):
        if wanted >= count:
            raise RecipeError(f"prune.{name}: the model has {count}, and at least one must remain")


def _sizes(out: nn.Linear, said: torch.Tensor, width: int) -> torch.Tensor:
    """How much each part, so many columns wide, adds to the stream."""
    norms = out.weight.detach().float().norm(dim=0).cpu()
    return (said * norms).view(-1, width).sum(1)


def _largest(sizes: torch.Tensor, count: int) -> torch.Tensor:
    # In their old order, so that what is left can be compared with what it was.
    return sizes.topk(count).indices.sort().values


def _span(kept: torch.Tensor, width: int) -> torch.Tensor:
    """The members of kept groups of such a width."""
    return (kept[:, None] * width + torch.arange(width)).flatten()


def _with_rows(linear: nn.Linear, kept: torch.Tensor) -> nn.Linear:
    bias = None if linear.bias is None else linear.bias.detach()[kept]
    return _linear(linear.weight.detach()[kept], bias)


def _with_columns(linear: nn.Linear, kept: torch.Tensor) -> nn.Linear:
    return _linear(linear.weight.detach()[:, kept], None if linear.bias is None else linear.bias.detach())


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    with torch.no_grad():
        made.weight.copy_(weight)
        if bias is not None:
            made.bias.copy_(bias)
    return made


def _has(layer: Any, path: str) -> bool:
    for name in path.split("."):
        layer = getattr(layer, name, None)
    return isinstance(layer, nn.Linear)
