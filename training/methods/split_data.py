"""What is learned from and what is measured on: one file or folder that is split, or two; with their digests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from training.data.sources import DataFile
from training.outcome import Context
from training.registry import DataDigest

T = TypeVar("T")


class DataSettings(Protocol):
    """A recipe's `data` section, as far as it says which data."""

    @property
    def train(self) -> Path: ...

    @property
    def heldout(self) -> Path | None: ...

    @property
    def heldout_fraction(self) -> float: ...


@dataclass(frozen=True)
class SplitData(Generic[T]):
    """Both sides, and the digests of the files that they come from."""

    train: list[T]
    heldout: list[T]
    digests: list[DataDigest]


def read_split(
    settings: DataSettings,
    context: Context,
    read: Callable[[Path], DataFile[T]],
    split: Callable[[Sequence[T], float], tuple[list[T], list[T]]],
    check_apart: Callable[[Sequence[T], Sequence[T]], None],
) -> SplitData[T]:
    """Read what is to be learned, and the other file, of which `check_apart` is asked, or else `split` the one.

    Raises DataError.
    """
    train_file = heldout_file = read(context.path(settings.train))
    if settings.heldout is None:
        train, heldout = split(train_file.items, settings.heldout_fraction)
    else:
        heldout_file = read(context.path(settings.heldout))
        train, heldout = train_file.items, heldout_file.items
        check_apart(train, heldout)
    return SplitData(
        train,
        heldout,
        [
            *train_file.digests(settings.train, "train", train_file.numbers_of(train)),
            *heldout_file.digests(settings.heldout or settings.train, "heldout", heldout_file.numbers_of(heldout)),
        ],
    )
