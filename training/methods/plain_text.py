"""Plain text to learn from and to measure on, split and with the digests of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.texts import check_apart, read_texts, split_end
from training.errors import DataError
from training.methods.split_data import DataSettings
from training.outcome import Context
from training.registry import DataDigest


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


def read_text(settings: DataSettings, context: Context) -> SplitText:
    """Read what is to be learned, and hold out the other file or the end of this one; raises DataError."""
    train_file = heldout_file = read_texts(context.path(settings.train))
    if settings.heldout is None:
        train, heldout = split_end(train_file.items, settings.heldout_fraction)
    else:
        heldout_file = read_texts(context.path(settings.heldout))
        train, heldout = train_file.items, heldout_file.items
    # The end is held out, and a document may be cut in two.
    last = len(heldout_file.items)
    return SplitText(
        train,
        heldout,
        train_file.path,
        heldout_file.path,
        [
            *train_file.digests(settings.train, "train", range(len(train))),
            *heldout_file.digests(settings.heldout or settings.train, "heldout", range(last - len(heldout), last)),
        ],
    )


def read_distinct_text(settings: DataSettings, context: Context) -> SplitText:
    """As `read_text`; raises DataError where a side is empty or shares a document with the other."""
    text = read_text(settings, context)
    text.require_both()
    text.require_apart()
    return text
