"""Whether two forms of one model answer alike: with its adapter, merged, rounded, and read back from its files.

Compared are outputs on the same examples (logits, or embeddings). Their difference is relative: the root of the summed
squares of what differs, over that of what varies in the expected outputs. A constant added to all logits of a position
changes no probability, so each position's mean is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from training.data import Example
from training.errors import RecipeError
from training.evaluate.loading import load_model
from training.evaluate.perplexity import collate
from training.evaluate.source import Source
from training.methods import adapters
from training.registry import CheckpointRef

# Of the same arithmetic in another order, in fp32.
MOST_BY_ORDER = 1e-3
# Of rounding the weights: 8 bits of bf16 cost some hundredths in deep models, 11 of fp16 an eighth of that.
MOST_BY_ROUNDING = {torch.float32: MOST_BY_ORDER, torch.float16: 0.02, torch.bfloat16: 0.1}

# Outputs of a large vocabulary are large: 4 x 64 x 150,000 x 4 bytes = 150 MB.
_EXAMPLES = 4
_TOKENS = 64

Outputs = Callable[[Any], torch.Tensor]
"""Of a model: (positions, outputs)."""


def chat_outputs(examples: Sequence[Example], pad_token_id: int) -> Outputs:
    """The logits of a language model at the first tokens of the first examples."""
    cut = [
        Example(example.input_ids[:_TOKENS], example.labels[:_TOKENS], example.source)
        for example in examples[:_EXAMPLES]
    ]

    def outputs(model: Any) -> torch.Tensor:
        batch = collate(cut, pad_token_id, model.device)
        with evaluating(model):
            logits_BLV = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
        return logits_BLV[batch.attention_mask.bool()].float().cpu()

    return outputs


def difference(expected: torch.Tensor, outputs: torch.Tensor) -> float:
    """How far apart, relative to what varies in `expected`; infinite where either is no number."""
    centered = expected - expected.mean(-1, keepdim=True)
    apart = (outputs - outputs.mean(-1, keepdim=True)) - centered
    relative = float(apart.norm() / centered.norm().clamp_min(1e-12))
    # Not a number compares as false with any bound: it would pass as no difference.
    return relative if relative == relative else float("inf")


def merge(model: Any, dtype: torch.dtype, outputs: Outputs) -> Any:
    """Fold adapters in and round to `dtype`, or raise RecipeError where the model then answers otherwise."""
    expected = outputs(model)
    merged = adapters.fold(model)
    require(difference(expected, outputs(merged)), MOST_BY_ORDER, "merging spoils the model")
    adapters.round_to(merged, dtype)
    name = str(dtype).removeprefix("torch.")
    require(difference(expected, outputs(merged)), MOST_BY_ROUNDING[dtype], f"rounding to {name} spoils the model")
    return merged


def write(
    model: Any, base: Source, output: Literal["merged", "adapter"], dtype: torch.dtype, outputs: Outputs, folder: Path
) -> None:
    """Write a language model or its adapter; raises RecipeError where the files, loaded anew, answer otherwise."""
    expected = outputs(model)
    if output == "merged":
        adapters.save_merged(model, base.path, folder, dtype)
        again = load_model(written(folder), torch.float32)
    else:
        adapters.save_adapter(model, base, folder)
        again = load_model(written(folder, base), torch.float32)
    require_files(expected, outputs(again.to(model.device)))


def written(folder: Path, base: Source | None = None) -> Source:
    """A model's files that are not registered yet; `base` is an adapter's."""
    return Source(folder, CheckpointRef(ref="the result", digest="sha256:" + "0" * 64), base=base)


def require_files(expected: torch.Tensor, outputs: torch.Tensor) -> None:
    """Raise RecipeError where what was loaded from the files has other outputs than what was written."""
    require(difference(expected, outputs), MOST_BY_ORDER, "the files do not hold the model")


def require(apart: float, most: float, fault: str) -> None:
    """Raise RecipeError, one line that begins with `fault`, where outputs are further apart than `most`."""
    if not apart <= most:
        raise RecipeError(
            f"{fault}: its outputs differ by {apart:.2g} of their spread, {most:g} is allowed; nothing was "
            "registered. Set output: adapter, or other adapter.targets"
        )


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Without gradients and dropout, for the block."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        yield
    model.train(was_training)
