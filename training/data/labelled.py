"""Labelled texts: JSON lines `{"text": …, "label": …}`, or `{"text": …, "labels": […]}` where a text may have several.

A line may name its `group` (a document, a patient): no group is ever both learned from and measured on. Other keys
are ignored. Tables with columns of the same names are read too (`rows`), and so are `label TAB text` lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.rows import whole_rows
from training.data.sources import DataFile, Part, read_files
from training.errors import DataError


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One text and what it is."""

    text: str
    labels: tuple[str, ...]
    """One, or any number where the file has lists."""
    group: str
    """Of the texts that stay together; by default a text is one of its own, and equal texts are one."""
    source: str
    """`file:line`, for error messages."""


@dataclass(frozen=True)
class LabelledFile(DataFile[LabelledText]):
    """Labelled texts that were read."""

    is_multi_label: bool


def read_labelled(path: Path) -> LabelledFile:
    """Read every line; raises DataError naming the first that cannot be used."""
    rows = read_files(path, whole_rows, 'texts: write one {"text": …, "label": …} a line')
    multi = "labels" in rows.items[0][1]
    parts = [
        Part(part.name, part.sha256, [_labelled(row, source, multi) for source, row in part.items])
        for part in rows.parts
    ]
    return LabelledFile(path, parts, multi)


def check_no_leak(train: Sequence[LabelledText], heldout: Sequence[LabelledText]) -> None:
    """Raise DataError where a text, or a part of its group, is both learned from and measured on."""
    groups = {text.group: text for text in train}
    words = {_folded(text.text): text for text in train}
    for text in heldout:
        twin = groups.get(text.group) or words.get(_folded(text.text))
        if twin is not None:
            count = sum(text.group in groups or _folded(text.text) in words for text in heldout)
            raise DataError(
                f"{text.source}: is held out, and {twin.source} trains on the same text or group "
                f"({count} of {len(heldout)}): remove it from one of the two, or set data.allow_leaks: true"
            )


def label_names(texts: Sequence[LabelledText]) -> list[str]:
    """Every label, sorted; raises DataError where there is only one to choose from."""
    counts = Counter(label for text in texts for label in text.labels)
    if len(counts) < 2:
        raise DataError(f"{texts[0].source.rpartition(':')[0]}: has only the label {next(iter(counts), None)!r}")
    return sorted(counts)


def _labelled(row: dict[str, Any], source: str, multi: bool) -> LabelledText:
    text = row.get("text")
    if text is None:
        raise DataError(f"{source}: has no text, only {', '.join(map(repr, list(row)[:8]))}")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{source}: text is missing or empty")
    if ("labels" in row) is not multi:
        wanted, got = ("labels", "label") if multi else ("label", "labels")
        raise DataError(f"{source}: has {got}, where the lines before have {wanted}")
    labels = row["labels"] if multi else [row.get("label")]
    if not isinstance(labels, list) or not all(is_label(label) for label in labels):
        wanted = "labels is a list of texts or whole numbers" if multi else "label is a text or a whole number"
        raise DataError(f"{source}: {wanted}")
    group = row.get("group")
    return LabelledText(
        text,
        tuple(dict.fromkeys(str(label) for label in labels)),
        _folded(text) if group is None else str(group),
        source,
    )


def is_label(value: Any) -> bool:
    """A text or a whole number."""
    return (isinstance(value, str) and value != "") or (isinstance(value, int) and not isinstance(value, bool))


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
