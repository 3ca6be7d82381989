"""Which records are one: equal texts by their hash, nearly equal ones by MinHash and locality-sensitive hashing.

A record costs 512 bytes on the disk, mapped while pairs are compared, and some tens in memory, however long it is.
Source: Broder 1997, "On the resemblance and containment of documents"; Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", chapter 3.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.records import Record, folded
from training.data.words import Hashes, hash_text, runs
from training.errors import TrainingError
from training.recipes.data import DeduplicateSettings

NUM_PERMUTATIONS = 128
# Runs at once: memory for a long text stays that of a short one.
_BLOCK = 2048
_WRITTEN_AT_ONCE = 2048


EQUAL = "equal to another"
ALIKE = "like another"


@dataclass
class Verdict:
    """What is dropped as a duplicate."""

    dropped: dict[int, str]
    """By the record's place, why."""
    num_conflicts: int
    """Of these, how many have other labels than what is kept."""


class Duplicates:
    """Takes every record's fingerprint, then says which record of each cluster is kept."""

    def __init__(self, settings: DeduplicateSettings, seed: int, signatures: Path) -> None:
        """`signatures` is a file to be written, of 512 bytes a record."""
        self._settings = settings
        self._keys = array("Q")
        self._labels = array("Q")
        self._heldout = array("B")
        self._path = signatures
        self._waiting: list[NDArray[np.uint32]] = []
        random = np.random.default_rng(seed)
        # Odd factors: multiplying by them permutes the numbers modulo 2**64.
        self._factors = random.integers(1, 2**63, NUM_PERMUTATIONS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._offsets = random.integers(0, 2**63, NUM_PERMUTATIONS, dtype=np.uint64)

    def add(self, record: Record) -> None:
        """The next record."""
        text = record.text
        self._keys.append(hash_text(f"{record.kind} {folded(text, self._settings.fold_digits)}"))
        self._labels.append(hash_text("\n".join(record.labels)))
        self._heldout.append(record.side == "heldout")
        if self._settings.near is not None:
            self._waiting.append(self._signature(runs(text, self._settings.words)))
            if len(self._waiting) >= _WRITTEN_AT_ONCE:
                self._write()

    def _write(self) -> None:
        try:
            with self._path.open("ab") as file:
                file.writelines(signature.tobytes() for signature in self._waiting)
        except OSError as error:
            raise TrainingError(f"{self._path}: cannot be written: {error.strerror}") from None
        self._waiting.clear()

    def _signature(self, hashes: Hashes) -> NDArray[np.uint32]:
        """The least value of all runs under each of the permutations."""
        least = np.full(NUM_PERMUTATIONS, np.iinfo(np.uint32).max, np.uint32)
        for start in range(0, len(hashes), _BLOCK):
            block = hashes[start : start + _BLOCK, None]
            # The upper half of the product: its lower bits depend on the lower bits of the hash alone.
            values = ((block * self._factors + self._offsets) >> np.uint64(32)).astype(np.uint32)
            np.minimum(least, values.min(axis=0), out=least)
        return least

    def resolve(self) -> Verdict:
        """Which records are dropped. Nothing is added afterwards."""
        equal = _Sets(len(self._keys))
        if self._settings.exact:
            for first, other in _same(np.frombuffer(self._keys, np.uint64)):
                equal.join(first, other)
        alike = equal.copy()
        if self._settings.near is not None and len(self._keys):
            self._write()
            self._join_near(alike)
        verdict = Verdict({}, 0)
        for members in alike.several():
            # A published test stays whole: what is trained on gives way.
            kept = max(members, key=lambda index: (self._heldout[index], -index))
            for index in members:
                if index == kept:
                    continue
                is_equal = equal.root(index) != index or equal.root(kept) == index
                verdict.dropped[index] = EQUAL if is_equal else ALIKE
                verdict.num_conflicts += self._labels[index] != self._labels[kept]
        return verdict

    def _join_near(self, sets: _Sets) -> None:
        assert self._settings.near is not None
        signatures = np.memmap(self._path, np.uint32, "r").reshape(-1, NUM_PERMUTATIONS)
        empty = np.iinfo(np.uint32).max
        bands, rows = bands_for(self._settings.near)
        for band in range(bands):
            part = np.ascontiguousarray(signatures[:, band * rows : (band + 1) * rows])
            keys = _hash_rows(part)
            for first, other in _same(keys):
                # Texts without a run of words have no signature to compare.
                if sets.root(first) == sets.root(other) or signatures[first, 0] == empty:
                    continue
                alike = float(np.mean(signatures[first] == signatures[other]))
                if alike >= self._settings.near:
                    sets.join(first, other)


def bands_for(similarity: float) -> tuple[int, int]:
    """Bands and rows of a signature, so that pairs of this similarity meet in some band with 99% or more."""
    for rows in range(NUM_PERMUTATIONS, 0, -1):
        bands = NUM_PERMUTATIONS // rows
        if 1 - (1 - similarity**rows) ** bands >= 0.99:
            return bands, rows
    return NUM_PERMUTATIONS, 1


def _hash_rows(part: NDArray[np.uint32]) -> Hashes:
    made = np.zeros(len(part), np.uint64)
    for column in part.T:
        made = (made ^ column) * np.uint64(0x100000001B3)
        made ^= made >> np.uint64(29)
    return made


def _same(keys: Hashes) -> list[tuple[int, int]]:
    """Pairs of places with one key: each with the first of its key, and with the one before it."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(keys) else order
    first_of = np.repeat(order[begins], np.diff(np.append(begins, len(keys))))
    again = np.flatnonzero(first_of != order)
    pairs = [*zip(first_of[again].tolist(), order[again].tolist(), strict=True)]
    return [*pairs, *zip(order[again - 1].tolist(), order[again].tolist(), strict=True)]


class _Sets:
    """Disjoint sets of records; the first of each is its root."""

    def __init__(self, size: int) -> None:
        self._parents = array("q", range(size))

    def copy(self) -> _Sets:
        made = _Sets(0)
        made._parents = self._parents[:]
        return made

    def root(self, index: int) -> int:
        parents = self._parents
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    def join(self, first: int, other: int) -> None:
        low, high = sorted((self.root(first), self.root(other)))
        self._parents[high] = low

    def several(self) -> Iterable[list[int]]:
        """The members of every set that has more than one, in order."""
        parents = np.frombuffer(self._parents, np.int64)
        sets: dict[int, list[int]] = {}
        for index in np.flatnonzero(parents != np.arange(len(parents))).tolist():
            root = self.root(index)
            sets.setdefault(root, [root]).append(index)
        return sets.values()
