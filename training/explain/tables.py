"""Explanations as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from training.explain.tokens import MergedWord, Piece


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
