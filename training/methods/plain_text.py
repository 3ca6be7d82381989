"""Plain text to learn from and to measure on, split and with the digests of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from training.data.texts import check_apart, read_texts, split_end
from training.errors import DataError
from training.outcome import Context
from training.registry import DataDigest


class TextSettings(Protocol):
    """A recipe's `data` section, as far as it says which text."""

    @property
    def train(self) -> Path: ...

    @property
    def heldout(self) -> Path | None: ...

    @property
    def heldout_fraction(self) -> float: ...


@dataclass(frozen=True)
class SplitText:
    """What is learned from, what is measured on, and the digests of the files that they come from."""

    train: Sequence[str]
    heldout: Sequence[str]
    train_path: Path
    heldout_path: Path
    digests: list[DataDigest]

    def require_both(self) -> None:
        """Raise DataError where a side is empty."""
        if not self.train or not self.heldout:
            raise DataError(f"{self.train_path}: too little text to learn from and to hold out")

    def require_apart(self) -> None:
        """Raise DataError where a document is on both sides."""
        check_apart(self.train, self.heldout, self.heldout_path)


def read_text(settings: TextSettings, context: Context) -> SplitText:
    """Read what is to be learned, and hold out the other file or the end of this one; raises DataError."""
    train_file = read_texts(context.path(settings.train))
    if settings.heldout is None:
        heldout_file, heldout_name = train_file, settings.train
        train, heldout = split_end(train_file.documents, settings.heldout_fraction)
    else:
        heldout_file, heldout_name = read_texts(context.path(settings.heldout)), settings.heldout
        train, heldout = list(train_file.documents), list(heldout_file.documents)
    return SplitText(
        train,
        heldout,
        train_file.path,
        heldout_file.path,
        [
            DataDigest(name=str(settings.train), sha256=train_file.sha256, rows=len(train), role="train"),
            DataDigest(name=str(heldout_name), sha256=heldout_file.sha256, rows=len(heldout), role="heldout"),
        ],
    )


def read_distinct_text(settings: TextSettings, context: Context) -> SplitText:
    """As `read_text`; raises DataError where a side is empty or shares a document with the other."""
    text = read_text(settings, context)
    text.require_both()
    text.require_apart()
    return text
