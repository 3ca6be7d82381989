"""Where a model looks: the attention of every layer and head while it reads a text.

Tensors are named with their shapes: A layers, N heads, L tokens that look, M positions that are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from safetensors import SafetensorError
from tokenizers import Encoding
from transformers import AutoModel

from training.errors import SourceError, TrainingError
from training.evaluate.loading import load_model, quiet
from training.evaluate.source import Source
from training.evaluate.tokens import open_tokenizer
from training.lexical import bert as _lexical  # noqa: F401, which transformers then knows
from training.model.bottleneck import has_bottlenecks

MOST_TOKENS = 128
"""More cannot be told apart in a picture."""


@dataclass(frozen=True)
class Attention:
    """What one text's tokens looked at."""

    weights_ANLM: torch.Tensor
    """Rows sum to one."""
    tokens: list[str]
    """The text of each token, as a label."""

    @property
    def num_layers(self) -> int:
        return int(self.weights_ANLM.shape[0])

    @property
    def num_heads(self) -> int:
        return int(self.weights_ANLM.shape[1])

    @property
    def looked_at(self) -> list[str]:
        """Labels of what can be looked at: a learned prefix stands before the text's own tokens."""
        prefix = self.weights_ANLM.shape[-1] - len(self.tokens)
        return [*(f"prefix {number}" for number in range(1, prefix + 1)), *self.tokens]

    def head_statistics(self) -> list[HeadStatistics]:
        """Of every head, layer by layer."""
        return [
            _statistics_of(layer, head, weights_LM)
            for layer, heads in enumerate(self.weights_ANLM)
            for head, weights_LM in enumerate(heads)
        ]


@dataclass(frozen=True)
class HeadStatistics:
    """Where a head attends, as means over all tokens but the first, which mostly has no choice."""

    layer: int
    head: int
    first: float
    """Weight of the first position: where heads look that have nothing to say (Xiao et al. 2024)."""
    before: float
    """Of the token just before."""
    itself: float
    entropy: float
    """Of a row, in parts of the largest it could have: 1 looks at all alike, 0 at one."""

    def as_json(self) -> dict[str, JsonValue]:
        return dict(vars(self))


def read_attention(source: Source, text: str) -> Attention:
    """Have a model of any kind read a text; raises SourceError or TrainingError."""
    encoding = open_tokenizer(source.path).encode(text)
    if not encoding.ids:
        raise TrainingError("the text has no tokens")
    if len(encoding.ids) > MOST_TOKENS:
        raise TrainingError(f"the text has {len(encoding.ids)} tokens, and at most {MOST_TOKENS} can be drawn")
    model = _load(source)
    with torch.inference_mode():
        attentions = model(torch.tensor([encoding.ids], device=model.device), output_attentions=True).attentions
    if not attentions or attentions[0] is None:
        raise SourceError(f"{source.identity.ref} has no attention to show")
    return Attention(torch.cat(list(attentions)).float().cpu(), labels(encoding, text))


def labels(encoding: Encoding, text: str) -> list[str]:
    """A token's text with spaces that can be seen; what has no text, or a part of a character, as its token."""
    shown_tokens, before = [], (0, 0)
    tokens = zip(encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True)
    for token, (start, end), is_special in tokens:
        shown = token if is_special or start == end or (start, end) == before else text[start:end]
        before = (start, end)
        shown = shown.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")
        shown_tokens.append(shown if shown.isprintable() else repr(shown)[1:-1])
    return shown_tokens


def _load(source: Source) -> Any:
    """In a form that hands out its attention, which the fast kernels never hold as a whole."""
    if source.base is not None:
        model: Any = load_model(source)
        bare = model if has_bottlenecks(model) else model.get_base_model()
        bare.set_attn_implementation("eager")
        return model.eval()
    try:
        with quiet():  # that a head is left out is what is wanted
            model = AutoModel.from_pretrained(
                source.path, local_files_only=True, attn_implementation="eager", dtype=torch.float32
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{source.identity.ref} cannot be loaded: {why}") from None
    return model.eval()


def _statistics_of(layer: int, head: int, weights_LM: torch.Tensor) -> HeadStatistics:
    prefix = weights_LM.shape[1] - weights_LM.shape[0]
    own_LL = weights_LM[:, prefix:]
    later_LM = weights_LM[1:] if len(weights_LM) > 1 else weights_LM
    before = float(own_LL.diagonal(-1).mean()) if len(weights_LM) > 1 else 0.0
    itself = float(own_LL.diagonal()[-len(later_LM) :].mean())
    # Two at least: a row with one place to look at would divide by log 1.
    possible_L = (later_LM > 0).sum(dim=1).clamp(min=2)
    entropy = float((torch.special.entr(later_LM).sum(dim=1) / possible_L.log()).mean())
    return HeadStatistics(layer, head, float(later_LM[:, 0].mean()), before, itself, min(1.0, max(0.0, entropy)))


def choose(attention: Attention, layer: int | None, head: int | None) -> list[tuple[int, int]]:
    """The (layer, head) that are meant, counted from 0; raises TrainingError where there are none such."""
    for name, wanted, count in (("layer", layer, attention.num_layers), ("head", head, attention.num_heads)):
        if wanted is not None and wanted >= count:
            raise TrainingError(f"--{name} {wanted}: the model has {count}, numbered from 0")
    layers = range(attention.num_layers) if layer is None else [layer]
    heads = range(attention.num_heads) if head is None else [head]
    return [(one, other) for one in layers for other in heads]


def require_folder(path: Path) -> None:
    """Raise TrainingError where a picture's folder is not there: before the model is read, not after."""
    if not path.parent.is_dir():
        raise TrainingError(f"--out {path}: there is no folder {path.parent}")
