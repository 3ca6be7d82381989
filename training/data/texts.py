"""Plain text to learn a language from: a file whole, or a file of rows (`rows`), each a document.

A row is `{"text": …}` or `{"messages": […]}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from training.data.rows import decoded, whole_rows
from training.data.sources import ROWS, DataFile, files_of, first_row, read_files
from training.errors import DataError


def read_texts(path: Path) -> DataFile[str]:
    """Read documents in any Unicode encoding; raises DataError naming the line that cannot be used."""
    return read_files(path, _documents, "text")


def holds_texts(path: Path) -> bool:
    """Whether a file is plain text, or its rows have a text and neither turns of a chat nor labels."""
    is_rows = all(file.suffix in ROWS for file in files_of(path))
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


def _documents(path: Path, content: bytes) -> Iterator[str]:
    documents = _row_documents(path, content) if path.suffix in ROWS else iter([decoded(content, path)])
    return (document for document in documents if document)


def _row_documents(path: Path, content: bytes) -> Iterator[str]:
    for source, row in whole_rows(path, content, "file"):
        document = _document(row)
        if document is None:
            raise DataError(f'{source}: is neither {{"text": …}} nor {{"messages": […]}}')
        yield document


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
