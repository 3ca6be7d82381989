"""Tokens for a model that exists: its tokenizer grows, and its embeddings by a row for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer

from training.data.rows import decoded
from training.errors import DataError, SourceError
from training.evaluate.loading import load_model, stored_dtype
from training.evaluate.tokens import count_tokens, open_tokenizer
from training.methods.adapters import save_merged
from training.methods.plain_text import read_distinct_text
from training.methods.register import register
from training.methods.vocabulary import remove_older_files
from training.outcome import Context, Outcome, Stopwatch, next_steps
from training.recipes.tokenizer import TokenizerRecipe
from training.tokenizer.extension import Extension, with_merges, with_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def extend(recipe: TokenizerRecipe, context: Context) -> Outcome:
    """Add tokens and register the larger model. Texts without them get the same logits."""
    assert recipe.extend is not None  # what this function is for
    watch = Stopwatch()
    base = context.find_model(recipe.extend.base)
    if base.kind in ("quantized", "adapter", "tokenizer"):
        raise SourceError(f"{base.identity.ref} is {base.kind}: only a whole model in full precision takes more tokens")
    text = read_distinct_text(recipe.data, context) if recipe.data is not None else None
    before = open_tokenizer(base.path)
    extension = _extended(before, recipe.extend.tokens, context, text.train if text else [])
    model = load_model(base, stored_dtype(base))
    grow(model, extension.pieces)

    def write(folder: Path) -> None:
        save_merged(model, base.path, folder, model.dtype)
        remove_older_files(folder)
        extension.tokenizer.save(str(folder / "tokenizer.json"))

    figures: dict[str, float] = {"new_tokens": len(extension.pieces)}
    if text is not None:
        figures["bytes_per_token_before"] = count_tokens(before, text.heldout).bytes_per_token
        figures["bytes_per_token"] = count_tokens(extension.tokenizer, text.heldout).bytes_per_token
    checkpoint = register(
        write,
        recipe,
        context,
        kind="merged",
        base=base,
        data=text.digests if text else [],
        evaluation=figures,
        show=context.show,
    )
    return Outcome(
        checkpoint=checkpoint,
        summary=_summary(figures),
        cost=watch.cost(),
        notes=[
            "New tokens begin as the mean of their pieces: train the model further, for example with method: sft.",
            *next_steps(checkpoint),
        ],
        report=dict(figures),
    )


def grow(model: PreTrainedModel, pieces: Mapping[int, Sequence[int]]) -> None:
    """Give each new id rows in the input and output embeddings: the mean of its pieces' rows."""
    needed = max(pieces) + 1
    if model.get_input_embeddings().weight.shape[0] < needed:  # some models have rows to spare
        model.resize_token_embeddings(needed, mean_resizing=False)
    head = model.get_output_embeddings()
    tables = [model.get_input_embeddings().weight, *(head.parameters() if head is not None else ())]
    with torch.no_grad():
        for table in tables:  # a tied one twice, from the same old rows
            for index, parts in pieces.items():
                table[index] = table[list(parts)].float().mean(0)


def _extended(before: Tokenizer, tokens: list[str] | int | Path, context: Context, texts: Sequence[str]) -> Extension:
    if isinstance(tokens, int):
        return with_merges(before, texts, tokens)
    return with_tokens(before, tokens if isinstance(tokens, list) else _read_tokens(context.path(tokens)))


def _read_tokens(path: Path) -> list[str]:
    try:
        lines = decoded(path.read_bytes(), path).replace("\r\n", "\n").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not any(line.strip() for line in lines):
        raise DataError(f"{path}: holds no tokens: write one a line")
    return [line for line in lines if line.strip()]


def _summary(figures: Mapping[str, float]) -> str:
    said = f"{figures['new_tokens']:.0f} new tokens"
    if "bytes_per_token" in figures:
        before, after = figures["bytes_per_token_before"], figures["bytes_per_token"]
        said += f", {before:.3f} bytes a token of held-out text before, {after:.3f} after"
    return said
