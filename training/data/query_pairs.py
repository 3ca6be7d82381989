"""Pairs of a query and a text that answers it: JSON lines `{"query": …, "text": …}`.

A line may name its `group` (a document, a customer): no group is both learned from and measured on. Without it, the
query is its own group. Other keys are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.rows import whole_rows
from training.data.sources import DataFile, read_files
from training.errors import DataError


@dataclass(frozen=True, slots=True)
class QueryPair:
    """A query and a text that answers it."""

    query: str
    text: str
    group: str
    source: str
    """`file:line`, for error messages."""


def read_query_pairs(path: Path) -> DataFile[QueryPair]:
    """Read every line; raises DataError naming the first that cannot be used."""
    return read_files(path, _pairs, 'pairs: write one {"query": …, "text": …} a line')


def _pairs(path: Path, content: bytes) -> Iterator[QueryPair]:
    return (_pair(row, source) for source, row in whole_rows(path, content))


def _pair(row: dict[str, Any], source: str) -> QueryPair:
    for name in ("query", "text"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise DataError(f"{source}: {name} is missing or empty")
    group = row.get("group")
    own = " ".join(row["query"].split()).casefold()
    return QueryPair(row["query"], row["text"], own if group is None else str(group), source)
