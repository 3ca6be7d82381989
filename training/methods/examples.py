"""What language models learn from and are measured on, encoded: chats, or plain text in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator

from training.data import ChatEncoder, Example, check_disjoint, encode_all, read_chats, split_heldout
from training.data.sources import first_row, is_chat
from training.errors import DataError
from training.evaluate.loading import load_chat_tokenizer, load_tokenizer
from training.evaluate.perplexity import Perplexity, count_targets, perplexity_of, total_loss
from training.evaluate.source import Source
from training.methods.plain_text import read_text
from training.methods.split_data import SplitData, read_split
from training.methods.trainer import sum_over
from training.outcome import Context
from training.progress import track
from training.recipes.sections import ChatData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


Examples = SplitData[Example]


def read_examples(settings: ChatData, context: Context, model: Source, show: bool) -> Examples:
    """Read chats where the file holds any, else plain text; encoded for that model."""
    path = context.path(settings.train)
    if holds_chats(path):
        return read_chat_examples(settings, context, load_chat_tokenizer(model), show)
    return read_text_examples(settings, context, load_tokenizer(model), show)


def holds_chats(path: Path) -> bool:
    """Whether rows are chats: told by the first, the rest is checked when it is read."""
    row = first_row(path)
    return row is not None and is_chat(row)


def read_chat_examples(
    settings: ChatData, context: Context, tokenizer: PreTrainedTokenizerFast, show: bool
) -> Examples:
    """Chats, of which what the assistant says is learned; raises DataError."""
    chats = read_split(settings, context, read_chats, split_heldout, check_disjoint)
    encoder = ChatEncoder(tokenizer, settings.max_tokens)
    with track("Encoding chats", show) as progress:
        return Examples(encode_all(encoder, chats.train, progress), encode_all(encoder, chats.heldout), chats.digests)


def read_text_examples(
    settings: ChatData, context: Context, tokenizer: PreTrainedTokenizerFast, show: bool
) -> Examples:
    """Plain text in blocks of `max_tokens`, every token of which is learned; raises DataError."""
    text = read_text(settings, context)
    if settings.heldout is not None:
        text.require_apart()
    with track("Encoding text", show):
        return Examples(
            train=text_blocks(text.train, tokenizer, settings.max_tokens, str(text.train_path)),
            heldout=text_blocks(text.heldout, tokenizer, settings.max_tokens, str(text.heldout_path)),
            digests=text.digests,
        )


def text_blocks(
    documents: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_tokens: int, source: str
) -> list[Example]:
    """Each document in blocks of at most `max_tokens`; raises DataError where none has two tokens.

    Text that looks like a control token is text.
    """
    blocks = []
    # In parts: the tokenizer's encoding of a text, offsets and all, takes many times the text's own memory.
    for document in documents:
        ids = [
            token
            for part in parts_of(document)
            for token in tokenizer(part, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        ]
        for start in range(0, len(ids), max_tokens):
            block = ids[start : start + max_tokens]
            # The first token of a block is not predicted, so a block of one teaches nothing.
            if len(block) > 1:
                blocks.append(Example(block, block, source))
    if not blocks:
        raise DataError(f"{source}: is too short: no token comes after another")
    return blocks


def parts_of(document: str, size: int = 100_000) -> list[str]:
    """A long document in pieces that end with a line where they can: tokens do not cross one."""
    parts, at = [], 0
    while at < len(document):
        end = at + size
        if end < len(document):
            end = (document.rfind("\n", at, end) + 1) or end
        parts.append(document[at:end])
        at = end
    return parts


def measure_shared(
    accelerator: Accelerator, model: Any, examples: Sequence[Example], pad_token_id: int, label: str, show: bool
) -> Perplexity:
    """Perplexity over all processes, each scoring its share."""
    share = examples[accelerator.process_index :: accelerator.num_processes]
    with track(label, show) as progress:
        loss = total_loss(model, share, pad_token_id, progress)
    tokens = count_targets(examples)
    return Perplexity(perplexity_of(sum_over(accelerator, loss) / tokens), tokens, len(examples))
