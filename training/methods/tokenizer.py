"""Tokenizers: learned from text, or grown together with the model that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from training.evaluate.tokens import count_tokens
from training.methods.plain_text import read_distinct_text
from training.methods.register import register
from training.outcome import Context, Outcome, Stopwatch
from training.progress import track
from training.recipes.tokenizer import TokenizerRecipe
from training.tokenizer.bpe import train_bpe
from training.tokenizer.saving import CHATML, library_tokenizer, save_tokenizer, train_unigram, train_wordpiece


def run(recipe: TokenizerRecipe, context: Context) -> Outcome:
    """Learn and register; whatever interrupts it, nothing is registered half."""
    if recipe.extend is not None:
        from training.methods.extend import extend  # imports torch, which a tokenizer does not need

        return extend(recipe, context)
    assert recipe.data is not None  # a recipe without `extend` has it
    watch = Stopwatch()
    text = read_distinct_text(recipe.data, context)
    tokenizer = _learn(recipe, text.train, context.show)
    count = count_tokens(tokenizer, text.heldout)

    def write(folder: Path) -> None:
        save_tokenizer(tokenizer, folder, CHATML if recipe.chat_template else None)

    checkpoint = register(
        write,
        recipe,
        context,
        kind="tokenizer",
        data=text.digests,
        evaluation={
            "bytes_per_token": count.bytes_per_token,
            "vocab_size": count.vocab_size,
            "heldout_bytes": count.bytes,
            "heldout_tokens": count.tokens,
        },
        show=context.show,
    )
    return Outcome(
        checkpoint=checkpoint,
        summary=f"{count.vocab_size:,} tokens, {count.bytes_per_token:.3f} bytes a token on held-out text",
        cost=watch.cost(),
        notes=[
            f"Look at it:   signet explain tokens 'Some text.' --model {checkpoint.ref}",
            f"Compare it:   signet evaluate {checkpoint.ref} --data FILE --beside smollm2-135m-instruct",
            f"Train with it: signet train RECIPE --set tokenizer={checkpoint.ref} (method: pretrain)",
        ],
        report=dict(count.figures()),
    )


def _learn(recipe: TokenizerRecipe, texts: Sequence[str], show: bool) -> Tokenizer:
    special_tokens = recipe.all_special_tokens()
    if recipe.kind == "unigram":
        return train_unigram(texts, recipe.vocab_size, special_tokens)
    if recipe.kind == "wordpiece":
        return train_wordpiece(texts, recipe.vocab_size, special_tokens)
    with track("Learning merges", show) as progress:
        return library_tokenizer(train_bpe(texts, recipe.vocab_size, special_tokens, progress))
