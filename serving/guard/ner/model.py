"""The weights: a table from a word's traits to what it adds to the tags of the words round it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from serving.guard.ner.words import SIDE, joint_rows, rows

WEIGHTS = Path(__file__).with_name("names.bin")
NUM_ROWS = 1 << 17
NUM_JOINT_ROWS = 1 << 17
TAGS = ("name", "address")
"""A word has the better of them where that is above zero, and none otherwise."""

WIDTH = len(TAGS) * (2 * SIDE + 1)
"""Columns of the table: for each place from `SIDE` words after to `SIDE` before, the tags."""

_FORMAT = 1


class Header(NamedTuple):
    """The first line of the file."""

    format: int
    scale: float
    """What one unit of a weight is in log odds."""
    lean: tuple[float, ...]
    """Log odds by which each tag is preferred: a missed name costs more than a masked word."""


class Model:
    """Small whole numbers, so that sums are the same on every machine."""

    def __init__(self, table: bytes, joint: bytes, lean: Sequence[int]) -> None:
        if len(table) != NUM_ROWS * WIDTH or len(joint) != NUM_JOINT_ROWS * len(TAGS):
            raise ValueError("the weights have another size")
        self._table = memoryview(table).cast("b")
        self._joint = memoryview(joint).cast("b")
        self.lean = (lean[0], lean[1])
        # A text says the same words again and again.
        self.of_word = lru_cache(8192)(self._of_word)
        self.of_joint = lru_cache(8192)(self._of_joint)

    def _of_word(self, word: str) -> tuple[int, ...]:
        """What a word adds, a number for each column."""
        vectors = [self._table[row * WIDTH : (row + 1) * WIDTH] for row in rows(word, NUM_ROWS)]
        return tuple(map(sum, zip(*vectors, strict=True)))

    def _of_joint(self, around: tuple[str, str, str, str, str]) -> tuple[int, int]:
        indices = [row * 2 for row in joint_rows(around, NUM_JOINT_ROWS)]
        return sum(self._joint[row] for row in indices), sum(self._joint[row + 1] for row in indices)


@cache
def shipped() -> Model:
    """The model that came with the package."""
    return read(WEIGHTS)


def read(path: Path) -> Model:
    """Read a model.

    Raises:
        ValueError: the file is not one, or of another format.
    """
    head, _, packed = path.read_bytes().partition(b"\n")
    try:
        header = Header(**json.loads(head))
        weights = zlib.decompress(packed)
    except (ValueError, TypeError, zlib.error):
        raise ValueError(f"{path} is not a model of names") from None
    if header.format != _FORMAT:
        raise ValueError(f"{path} has format {header.format}, this release reads {_FORMAT}")
    size = NUM_ROWS * WIDTH
    return Model(weights[:size], weights[size:], [round(bias / header.scale) for bias in header.lean])


def write(path: Path, table: bytes, joint: bytes, scale: float, lean: Sequence[float]) -> None:
    """Write a model as `read` takes it."""
    head = json.dumps(Header(_FORMAT, scale, tuple(lean))._asdict()).encode()
    path.write_bytes(head + b"\n" + zlib.compress(table + joint, 9))
