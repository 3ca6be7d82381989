"""How a text becomes tokens: its pieces with their ids and bytes, and the merges that made them; as tables, too."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from pydantic import JsonValue
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tokenizers import Encoding, Tokenizer

from training.tokenizer.bpe import BPE, Merge, bytes_of
from training.tokenizer.saving import read_bpe

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Piece:
    """One token of a text."""

    id: int
    token: str
    """As the vocabulary spells it."""
    text: str
    """The characters that it is a part of."""
    content: bytes
    """What it holds of the text in UTF-8: of a character that is cut in two, its share."""
    is_special: bool

    def as_json(self) -> dict[str, JsonValue]:
        """As `--json` writes it."""
        return {
            "id": self.id,
            "token": self.token,
            "text": self.text,
            "bytes": list(self.content),
            "special": self.is_special,
        }


@dataclass(frozen=True)
class MergedWord:
    """A word, as the tokenizer cuts a text before it merges, and what was merged in it, first things first."""

    word: str
    merges: list[tuple[int, str, str]]
    """Rank (lower ones were learned earlier), left token, right token."""

    def as_json(self) -> dict[str, JsonValue]:
        """As `--json` writes it."""
        steps: list[JsonValue] = [
            {"rank": rank, "left": left, "right": right, "token": left + right} for rank, left, right in self.merges
        ]
        return {"word": self.word, "merges": steps}


@dataclass(frozen=True)
class Explanation:
    """A text's tokens and how they came about."""

    pieces: list[Piece]
    words: list[MergedWord] | None
    """Those in which something was merged, each once; None where the tokenizer does not merge."""


def explain_tokens(tokenizer: Tokenizer, text: str) -> Explanation:
    """Encode a text as a model gets it, without what is added around it."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    added = tokenizer.get_added_tokens_decoder()
    decoder = json.loads(tokenizer.to_str())["decoder"] or {}
    pieces = []
    for index, token, (start, end) in zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True):
        here = text[start:end]
        if index in added:
            content = token.encode()
        elif decoder.get("type") == "ByteLevel":
            content = bytes_of(token)
        else:
            single = _BYTE_TOKEN.fullmatch(token)
            content = bytes.fromhex(single[1]) if single else here.encode()
        pieces.append(Piece(index, token, here, content, index in added and added[index].special))
    bpe = read_bpe(tokenizer)
    return Explanation(pieces, None if bpe is None else _merged_words(bpe, encoding))


def _merged_words(bpe: BPE, encoding: Encoding) -> list[MergedWord]:
    words: dict[str, MergedWord] = {}
    numbered = zip(encoding.word_ids, encoding.tokens, encoding.ids, strict=True)
    for _, group in groupby(numbered, key=lambda each: each[0]):
        tokens = list(group)
        word = "".join(token for _, token, _ in tokens)
        if word in words or not all(character in bpe.vocabulary for character in word):
            continue
        merges: list[Merge] = []
        made = bpe.merge([bpe.vocabulary[character] for character in word], merges.append)
        # Other ids: an added token, or a tokenizer that takes whole words from its vocabulary.
        if merges and made == [index for _, _, index in tokens]:
            steps = [(merge.rank, bpe.tokens[merge.left], bpe.tokens[merge.right]) for merge in merges]
            words[word] = MergedWord(word, steps)
    return list(words.values())


def pieces_table(pieces: Sequence[Piece]) -> Table:
    """A row for each token."""
    table = Table("id", "token", "text", "bytes", box=SIMPLE)
    for piece in pieces:
        kind = "bold" if piece.is_special else ""
        # `repr`, so that control characters do not reach the terminal; `Text`, so that brackets are no markup.
        cells = (str(piece.id), _visible(piece.token), repr(piece.text), piece.content.hex(" "))
        table.add_row(*(Text(cell, kind) for cell in cells))
    return table


def merges_table(word: MergedWord) -> Table:
    """A row for each merge, in the order in which they are made."""
    table = Table("rank", "left", "right", "token", box=SIMPLE, title=Text(_visible(word.word)), title_justify="left")
    for rank, left, right in word.merges:
        table.add_row(*(Text(cell) for cell in (str(rank), _visible(left), _visible(right), _visible(left + right))))
    return table


def print_table(table: Table) -> None:
    """To standard output, as wide as it needs where nobody watches."""
    console = Console()
    console.print(table, width=None if console.is_terminal else 10_000, crop=console.is_terminal)


def _visible(token: str) -> str:
    return token if token.isprintable() else repr(token)
