"""What `data.train` names: a file, or a folder's files in the order of their paths, each read whole and hashed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from training.data.rows import read_rows
from training.data.shapes import chat_of
from training.errors import DataError
from training.registry import DataDigest
from training.registry.manifest import canonical_json

T = TypeVar("T")
Role = Literal["train", "heldout", "calibration", "evaluation"]

ROWS = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".gz"})
"""How files end that hold rows."""
_PLAIN = frozenset({".txt", ".md", ".text", ".rst"})
_READ = ROWS | _PLAIN
# What comes with data and is none.
_NOT_DATA = frozenset(
    {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "readme.md", "readme.txt"}
    | {"license.md", "license.txt"}
)
_HELD_OUT = ("test", "validation", "valid", "dev", "heldout", "held_out", "eval")
_HEAD = 1024


@dataclass(frozen=True)
class Part(Generic[T]):
    """One file of a folder, or the only one."""

    name: str
    """Below the folder; empty where a file was named."""
    sha256: str
    items: Sequence[T]


@dataclass(frozen=True)
class DataFile(Generic[T]):
    """What was read, and the digest of exactly that."""

    path: Path
    parts: Sequence[Part[T]]

    @cached_property
    def items(self) -> list[T]:
        """Of all files, in their order."""
        return [item for part in self.parts for item in part.items]

    @property
    def sha256(self) -> str:
        """Of the file; of a folder, that of the canonical JSON of {name: SHA-256}."""
        if [part.name for part in self.parts] == [""]:
            return self.parts[0].sha256
        return hashlib.sha256(canonical_json({part.name: part.sha256 for part in self.parts})).hexdigest()

    def numbers_of(self, items: Iterable[T]) -> set[int]:
        """Where some of the items stand; they are told by identity, so they must be these very objects."""
        wanted = {id(item) for item in items}
        return {number for number, item in enumerate(self.items) if id(item) in wanted}

    def digests(self, name: Path, role: Role, numbers: Collection[int]) -> list[DataDigest]:
        """For the manifest: each file that has some of the items of these numbers, as the recipe calls it."""
        digests, first = [], 0
        for part in self.parts:
            end = first + len(part.items)
            rows = sum(first <= number < end for number in numbers) if len(self.parts) > 1 else len(numbers)
            first = end
            if rows:
                digests.append(DataDigest(name=str(name / part.name), sha256=part.sha256, rows=rows, role=role))
        return digests


def read_files(path: Path, read: Callable[[Path, bytes], Iterable[T]], wanted: str) -> DataFile[T]:
    """Read a file, or all of a folder's; raises DataError naming the file and line that cannot be used.

    Of a folder, the files must hold the same kind of data, and no two sides of a split. `wanted` ends the error where
    there is nothing in it.
    """
    files = files_of(path)
    if path.is_dir():
        _require_one_side(path, files)
        _require_one_kind(path, files)
    parts = []
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror}") from None
        name = file.relative_to(path).as_posix() if file != path else ""
        parts.append(Part(name, hashlib.sha256(content).hexdigest(), list(read(file, content))))
    if not any(part.items for part in parts):
        raise DataError(f"{path}: holds no {wanted}")
    return DataFile(path, parts)


def files_of(path: Path, pattern: str | None = None) -> list[Path]:
    """A file itself, or a folder's data files in the order of their paths; raises DataError where there is none.

    With a `pattern`, the files whose names match.
    """
    if not path.is_dir():
        return [path]
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and (fnmatch(file.name, pattern) if pattern else file.suffix.lower() in _READ)
        and file.name.lower() not in _NOT_DATA
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    if not files and pattern:
        raise DataError(f"{path}: the folder holds no file named {pattern}")
    if not files:
        raise DataError(f"{path}: the folder holds no data files ({', '.join(sorted(_READ))})")
    return files


def side_of(path: Path, folder: Path) -> Literal["train", "heldout"] | None:
    """Of a published split: what a file's or its folder's name says."""
    words: Sequence[str] = [
        word for part in path.relative_to(folder).parts for word in part.lower().replace(".", "-").split("-")
    ]
    if any(word.startswith(_HELD_OUT) for word in words):
        return "heldout"
    return "train" if any(word.startswith("train") for word in words) else None


def first_row(path: Path) -> dict[str, Any] | None:
    """The first row of a file, or of a folder's first file that has one; None where there is none, or plain text.

    Raises DataError where it cannot be read.
    """
    rows = (_first_row(file) for file in files_of(path))
    return next((row for row in rows if row is not None), None)


def _first_row(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            if path.suffix not in ROWS and not file.peek(_HEAD).lstrip().startswith(b"{"):
                return None
            _, row = next(read_rows(path, file, "file"), ("", None))
            return row
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def kind_of(row: dict[str, Any] | None) -> str:
    """What a row is, as a plural for the user; plain text where there is no row."""
    if row is None:
        return "texts"
    if {"chosen", "rejected"} <= row.keys():
        return "preferences"
    if row.keys() & {"label", "labels"}:
        return "labelled texts"
    if "query" in row:
        return "queries with texts"
    if is_chat(row):
        return "chats"
    return "texts" if "text" in row else "other rows"


def is_chat(row: dict[str, Any]) -> bool:
    """Whether a row is a chat, or tries to be one."""
    if "messages" in row:
        return True
    try:
        return "text" not in row and chat_of(row) is not None
    except ValueError:  # of a chat, which says so when it is read
        return True


# A part of a data set alone in its name: `test.jsonl`, `test-00000-of-00001.parquet`, `test/…`. A text may be called
# `test report.txt`.
_SIDE = re.compile(rf"({'|'.join(_HELD_OUT)}|train)(-\d.*)?(\..*)?")


def _require_one_side(path: Path, files: Sequence[Path]) -> None:
    """Raise DataError where some of the files are held out by their names, and others not."""
    sides: dict[bool, Path] = {}
    for file in files:
        named = [found[1] for part in file.relative_to(path).parts if (found := _SIDE.fullmatch(part.lower()))]
        sides.setdefault(any(side in _HELD_OUT for side in named), file.relative_to(path))
    if len(sides) > 1:
        raise DataError(
            f"{path}: the folder holds {sides[True]}, which is held out by its name, beside {sides[False]}: name the "
            "file or folder to use, or build a data set of it: signet data build"
        )


def _require_one_kind(path: Path, files: Sequence[Path]) -> None:
    """Raise DataError where a folder mixes chats, texts and the like; files without content are of any kind."""
    kinds: dict[str, Path] = {}
    for file in files:
        row = _first_row(file)
        if row is not None or file.suffix.lower() in _PLAIN:
            kinds.setdefault(kind_of(row), file.relative_to(path))
    if len(kinds) > 1:
        (one, first), (other, second) = list(kinds.items())[:2]
        raise DataError(
            f"{path}: the folder mixes {one} ({first}) and {other} ({second}): name the file or folder to use"
        )
