"""Pairs of a query and a text that answers it: JSON lines `{"query": …, "text": …}`.

A line may name its `group` (a document, a customer): no group is both learned from and measured on. Without it, the
query is its own group. Other keys are ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.rows import whole_rows
from training.errors import DataError


@dataclass(frozen=True, slots=True)
class QueryPair:
    """A query and a text that answers it."""

    query: str
    text: str
    group: str
    source: str
    """`file:line`, for error messages."""


@dataclass(frozen=True)
class QueryFile:
    """A file that was read, and the digest of exactly what was read."""

    sha256: str
    pairs: Sequence[QueryPair]


def read_query_pairs(path: Path) -> QueryFile:
    """Read every line; raises DataError naming the first that cannot be used."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    pairs = [_pair(row, source) for source, row in whole_rows(path, content)]
    if not pairs:
        raise DataError(f'{path}: holds no pairs: write one {{"query": …, "text": …}} a line')
    return QueryFile(hashlib.sha256(content).hexdigest(), pairs)


def _pair(row: dict[str, Any], source: str) -> QueryPair:
    for name in ("query", "text"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise DataError(f"{source}: {name} is missing or empty")
    group = row.get("group")
    own = " ".join(row["query"].split()).casefold()
    return QueryPair(row["query"], row["text"], own if group is None else str(group), source)
