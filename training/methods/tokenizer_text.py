"""The text that a tokenizer learns from, or is measured on before and after it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.data.texts import check_apart, read_texts, split_end
from training.errors import DataError
from training.outcome import Context
from training.recipes.tokenizer import TokenizerData
from training.registry import DataDigest


@dataclass(frozen=True)
class Text:
    """What is learned from, what is measured on, and the digests of the files that they come from."""

    train: Sequence[str]
    heldout: Sequence[str]
    digests: list[DataDigest]


def read_text(settings: TokenizerData, context: Context) -> Text:
    """Read and split; raises DataError."""
    train_file = read_texts(context.path(settings.train))
    if settings.heldout is None:
        heldout_file, heldout_name = train_file, settings.train
        train, heldout = split_end(train_file.documents, settings.heldout_fraction)
    else:
        heldout_file, heldout_name = read_texts(context.path(settings.heldout)), settings.heldout
        train, heldout = list(train_file.documents), list(heldout_file.documents)
    if not train or not heldout:
        raise DataError(f"{train_file.path}: too little text to learn from and to hold out")
    check_apart(train, heldout, heldout_file.path)
    return Text(
        train,
        heldout,
        [
            DataDigest(name=str(settings.train), sha256=train_file.sha256, rows=len(train), role="train"),
            DataDigest(name=str(heldout_name), sha256=heldout_file.sha256, rows=len(heldout), role="heldout"),
        ],
    )
