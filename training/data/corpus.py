"""Text as one long row of tokens, cut into blocks: what language models learn from and are measured on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tokenizers import Tokenizer

from training.errors import DataError, SourceError
from training.tokenizer.characters import END_OF_TEXT, characters_tokenizer, save_characters

# Enough for the library to use every core, little beside the memory of the text.
ENCODED_AT_ONCE = 256
PIECE_CHARACTERS = 1 << 16

# What maps text to tokens and back, and how a chat is written in it.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


class Vocabulary(Protocol):
    """A tokenizer, and how it is put beside a model."""

    encoder: Tokenizer
    separator: int | None
    """The token between two documents."""

    def save(self, folder: Path) -> None: ...


class Characters:
    """A token for each character of a text."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.encoder = characters_tokenizer(texts)
        self.separator: int | None = self.encoder.token_to_id(END_OF_TEXT)

    def save(self, folder: Path) -> None:
        save_characters(self.encoder, folder)


class ExistingTokenizer:
    """The tokenizer of an existing model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self.encoder = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises Exception itself
            raise SourceError(f"{folder} has no usable tokenizer.json: {error}") from None
        self.separator = _end_of_text(folder, self.encoder)

    def save(self, folder: Path) -> None:
        for name in _TOKENIZER_FILES:
            if (self._folder / name).is_file():
                shutil.copyfile(self._folder / name, folder / name)


@dataclass(frozen=True)
class Corpus:
    """Documents one after another."""

    tokens_T: torch.Tensor
    num_bytes: int
    """Of the text in UTF-8, without that of the first token, which nothing comes before."""

    @property
    def num_targets(self) -> int:
        """Tokens that are predicted."""
        return len(self.tokens_T) - 1

    def num_blocks(self, block: int) -> int:
        """Whole ones, each with the token after it."""
        return self.num_targets // block


def make_corpus(
    vocabulary: Vocabulary, documents: Sequence[str], on_progress: Callable[[int, int], None] | None = None
) -> Corpus:
    """Encode documents and put the separator between them. Text that looks like a control token is text."""
    encoder = vocabulary.encoder
    encoder.encode_special_tokens = True
    rows: list[np.ndarray[Any, Any]] = []
    total, done = sum(map(len, documents)), 0
    pieces = _pieces(documents)
    while part := list(islice(pieces, ENCODED_AT_ONCE)):
        encodings = encoder.encode_batch_fast([text for _, text in part], add_special_tokens=False)
        for (begins, text), encoding in zip(part, encodings, strict=True):
            if begins and rows and vocabulary.separator is not None:
                rows.append(np.array([vocabulary.separator], dtype=np.int32))
            # Half the memory of PyTorch's usual int64; batches are widened as they are used.
            rows.append(np.array(encoding.ids, dtype=np.int32))
            done += len(text)
        if on_progress is not None:
            on_progress(done, total)
    encoder.encode_special_tokens = False
    if not rows:
        return Corpus(torch.empty(0, dtype=torch.int32), 0)
    tokens_T = torch.from_numpy(np.concatenate(rows))
    first = encoder.decode([int(tokens_T[0])], skip_special_tokens=False)
    return Corpus(tokens_T, sum(len(document.encode()) for document in documents) - len(first.encode()))


def require_blocks(corpus: Corpus, block: int, path: Path, role: str) -> None:
    """Raise DataError where there is not one whole block."""
    if corpus.num_blocks(block) < 1:
        num_tokens = len(corpus.tokens_T)
        raise DataError(f"{path}: too little text to {role}: {num_tokens} tokens, and data.block + 1 are {block + 1}")


def _pieces(documents: Sequence[str]) -> Iterator[tuple[bool, str]]:
    """Documents, and whether one begins; long ones cut behind line ends, so that encoding needs little memory."""
    for document in documents:
        start = 0
        while start < len(document):
            end = start + PIECE_CHARACTERS
            line_end = document.rfind("\n", start, end) if end < len(document) else -1
            end = line_end + 1 or end
            yield start == 0, document[start:end]
            start = end


def _end_of_text(folder: Path, encoder: Tokenizer) -> int | None:
    """The token that the tokenizer's configuration calls the end of a sequence."""
    try:
        named = json.loads((folder / "tokenizer_config.json").read_text()).get("eos_token")
    except (OSError, ValueError, AttributeError):
        return None
    token = named.get("content") if isinstance(named, dict) else named
    return encoder.token_to_id(token) if isinstance(token, str) else None
