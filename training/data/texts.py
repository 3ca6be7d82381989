"""Plain text to learn a language from: a file whole, or a file of rows (`rows`), each a document.

A row is `{"text": …}` or `{"messages": […]}`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.rows import decoded, read_rows, whole_rows
from training.errors import DataError

_ROWS = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".gz"})
_HEAD = 1024


@dataclass(frozen=True)
class TextFile:
    """A file that was read, and the digest of exactly what was read."""

    path: Path
    sha256: str
    documents: Sequence[str]


def read_texts(path: Path) -> TextFile:
    """Read a file in any Unicode encoding; raises DataError naming the line that cannot be used."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    documents = _documents(content, path) if path.suffix in _ROWS else [decoded(content, path)]
    if not any(documents):
        raise DataError(f"{path}: holds no text")
    return TextFile(path, hashlib.sha256(content).hexdigest(), [document for document in documents if document])


def holds_texts(path: Path) -> bool:
    """Whether a file is plain text, or its rows have a text and neither turns of a chat nor labels."""
    is_rows = path.suffix in _ROWS
    try:
        row = first_row(path)
    except DataError:  # whoever reads it whole says what is wrong
        return not is_rows
    if row is None:
        return not is_rows
    return ("text" in row or not is_rows) and not row.keys() & {"messages", "label", "labels"}


def holds_labels(path: Path) -> bool:
    """Whether a file's rows say what its texts are."""
    try:
        row = first_row(path)
    except DataError:  # whoever reads it whole says what is wrong
        return False
    return row is not None and bool(row.keys() & {"label", "labels"})


def first_row(path: Path) -> dict[str, Any] | None:
    """The first row of a file, None where it has none or is plain text; raises DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            if path.suffix not in _ROWS and not file.peek(_HEAD).lstrip().startswith(b"{"):
                return None
            _, row = next(read_rows(path, file, "file"), ("", None))
            return row
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def split_end(documents: Sequence[str], fraction: float) -> tuple[list[str], list[str]]:
    """Split into (train, held out) by position, so that the last part of all characters is held out.

    By position and not at random: neighbouring lines of a text are no independent test of each other.
    """
    left = round(sum(map(len, documents)) * (1 - fraction))
    train, heldout = [], []
    for document in documents:
        here, there = document[:left], document[left:]
        left -= len(here)
        train += [here] if here else []
        heldout += [there] if there else []
    return train, heldout


def check_apart(train: Sequence[str], heldout: Sequence[str], path: Path) -> None:
    """Raise DataError when a held-out document is also learned from, as the figures on it would then say nothing."""
    twice = set(train).intersection(heldout)
    if twice:
        raise DataError(
            f"{path}: {len(twice)} of its {len(heldout)} held-out documents are also trained on, word for word: "
            "take the repetitions out first"
        )


def _documents(content: bytes, path: Path) -> list[str]:
    documents = []
    for source, row in whole_rows(path, content, "file"):
        document = _document(row)
        if document is None:
            raise DataError(f'{source}: is neither {{"text": …}} nor {{"messages": […]}}')
        documents.append(document)
    return documents


def _document(row: dict[str, Any]) -> str | None:
    """A row's text, or what is said in its messages, one below the other; None where it has neither."""
    if isinstance(row.get("text"), str):
        return str(row["text"])
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return None
    return "\n".join(message["content"] for message in messages if isinstance(message.get("content"), str))


def spread(ids: Sequence[int], width: int, most: int) -> list[list[int]]:
    """Whole windows that do not overlap, at most so many, at equal distances; none where the text is shorter."""
    whole = len(ids) // width
    chosen = [number * whole // min(most, whole) for number in range(min(most, whole))]
    return [list(ids[number * width : (number + 1) * width]) for number in chosen]
