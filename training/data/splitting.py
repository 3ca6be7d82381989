"""Which records are held out, and whether any of them is trained on as well."""

from __future__ import annotations

import hashlib
from array import array

import numpy as np

from training.data.records import Record, Side, folded
from training.data.words import hash_text
from training.errors import DataError
from training.recipes.data import SplitSettings


class Split:
    """Gives each record its side, and remembers texts and groups of both: 16 bytes a record."""

    def __init__(self, settings: SplitSettings, seed: int, without_digits: bool = False) -> None:
        """`without_digits`: whether texts that differ in digits and punctuation alone belong together."""
        self._settings = settings
        self._without_digits = without_digits
        self._seed = seed
        self._texts = {"train": array("Q"), "heldout": array("Q")}
        self._groups = {"train": array("Q"), "heldout": array("Q")}

    def side(self, record: Record, index: int) -> Side:
        """Where the record with this number goes. A group keeps its side when the data grows."""
        if self._settings.by == "published":
            side: Side = record.side or "train"
        else:
            what = record.group(self._without_digits) if self._settings.by == "group" else f"row {index}"
            side = "heldout" if position(f"{self._seed} {what}") < self._settings.heldout else "train"
        self._texts[side].append(hash_text(folded(record.text)))
        # By rows, nothing holds a group together: the text alone tells.
        named = record.row.get("group")
        self._groups[side].append(hash_text(folded(record.text) if named is None else f"group {named}"))
        return side

    def leaks(self) -> int:
        """How many held-out records stand in the training part too, by their text or a part of their group."""
        found = [
            np.isin(np.frombuffer(of["heldout"], np.uint64), np.frombuffer(of["train"], np.uint64))
            for of in (self._texts, self._groups)
        ]
        return int(np.count_nonzero(found[0] | found[1]))

    def check(self, name: str) -> int:
        """How many held-out records leak; raises DataError where any must not, or a side is empty."""
        num_train, num_heldout = len(self._texts["train"]), len(self._texts["heldout"])
        if not num_train or not num_heldout:
            side = "train on" if not num_train else "hold out"
            why = (
                "no file or row says that it belongs there"
                if self._settings.by == "published"
                else "the steps before the split dropped all of them"
                if not num_train + num_heldout
                else f"split.heldout ({self._settings.heldout:g}) is each group's chance: change it or the seed"
            )
            raise DataError(f"{name}: nothing is left to {side}, of {num_train + num_heldout} records: {why}")
        leaks = self.leaks()
        if leaks and not self._settings.allow_leaks:
            raise DataError(
                f"{name}: the split leaks: {leaks} of {num_heldout} held-out records ({leaks / num_heldout:.1%}) are "
                "trained on too, by their text or group: use deduplicate and split.by: group, or set "
                "split.allow_leaks: true"
            )
        return leaks


def position(name: str) -> float:
    """Where in [0, 1) it falls."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:8], "big") / 2**64
