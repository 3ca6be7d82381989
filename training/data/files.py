"""The files that a data set is written to and read from, streamed; whatever goes wrong with a disk is one line."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from training.errors import DataError, TrainingError


class JsonLines:
    """Writes JSON lines, and hashes them on the way. A context manager; nothing is written before it is entered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.size = 0
        """Bytes."""
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()

    def __enter__(self) -> JsonLines:
        try:
            self._file = self.path.open("wb")
        except OSError as error:
            raise self._unwritten(error) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._file is not None
        try:
            self._file.close()  # writes what is left
        except OSError as unwritten:
            if error is None:
                raise self._unwritten(unwritten) from None

    def write(self, row: Any) -> None:
        """One line; raises TrainingError where the disk takes no more."""
        assert self._file is not None
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        self._digest.update(line)
        self.rows += 1
        self.size += len(line)
        try:
            self._file.write(line)
        except OSError as error:
            raise self._unwritten(error) from None

    def _unwritten(self, error: OSError) -> TrainingError:
        return TrainingError(f"{self.path}: cannot be written: {error.strerror}")


def read_json_lines(path: Path) -> Iterator[Any]:
    """What `JsonLines` wrote."""
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def opened(path: Path) -> io.BufferedReader:
    """A data file; raises DataError where it cannot be read."""
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def sha256_of(path: Path) -> str:
    """Of a file that may be larger than memory."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
