"""A record as the model sees it: its tokens, and which of them are learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from training.data.chats import Chat
from training.data.encoding import IGNORED, ChatEncoder
from training.data.files import opened
from training.data.records import Record, record_of
from training.data.rows import read_rows
from training.errors import SourceError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Piece:
    """One token."""

    token: int
    text: str
    """The characters that it adds; empty within a character of several tokens."""
    learned: bool


def pieces_of(
    path: Path, tokenizer: PreTrainedTokenizerFast, max_tokens: int, number: int = 1, count: int = 1
) -> Iterator[tuple[str, list[Piece]]]:
    """`file:line` (and labels) and tokens of `count` records from the one with this number on.

    Raises DataError, or SourceError for a model that does not chat.
    """
    with opened(path) as file:
        for source, row in islice(read_rows(path, file), number - 1, number - 1 + count):
            record = record_of(row, source, {})
            if record.kind == "chat":
                yield source, _of_chat(record, tokenizer, max_tokens)
            else:
                labels = f": {', '.join(record.labels) or 'no label'}" if record.kind == "labelled" else ""
                yield source + labels, _of_text(record, tokenizer, max_tokens)


def _of_chat(record: Record, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> list[Piece]:
    if not tokenizer.chat_template:
        raise SourceError("the model has no chat template: it is not a chat model")
    chat = Chat.model_validate(record.row).model_copy(update={"source": record.source})
    example, text, places = ChatEncoder(tokenizer, max_tokens).encode_with_places(chat)
    return _pieces(example.input_ids, text, places, [label != IGNORED for label in example.labels])


def _of_text(record: Record, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> list[Piece]:
    """Of a labelled text the label is learned and no token; of a plain text every token but the first."""
    encoded = tokenizer(record.text, return_offsets_mapping=True)
    ids, places = encoded["input_ids"][:max_tokens], encoded["offset_mapping"][:max_tokens]
    learned = [record.kind == "text" and number > 0 for number in range(len(ids))]
    # Tokens that the text does not hold, such as [CLS], are shown by their names.
    names = tokenizer.convert_ids_to_tokens(ids)
    added = [start == end for start, end in places]
    shown = _pieces(ids, record.text, places, learned)
    return [
        Piece(piece.token, names[number], piece.learned) if added[number] else piece
        for number, piece in enumerate(shown)
    ]


def _pieces(ids: list[int], text: str, places: list[tuple[int, int]], learned: list[bool]) -> list[Piece]:
    pieces, shown = [], 0
    for token, (_, end), is_learned in zip(ids, places, learned, strict=True):
        # What tokenizers skip, such as spaces, stands before the next token.
        pieces.append(Piece(token, text[shown:end], is_learned))
        shown = max(shown, end)
    return pieces
