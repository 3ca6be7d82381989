"""The local journal: where records go while the database cannot take them, and from where they come back.

A folder of append-only files, one for each process, held by a lock that dies with the process. A line is the CRC-32
of the rest as eight hexadecimal digits, a blank, and the entry as JSON. A batch is on disk (`fdatasync`) before its
waiters hear of it. A torn last line was promised to nobody and is left out.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import msgspec

from serving.ledger.audit import Entry

logger = logging.getLogger(__name__)

SUFFIX = ".journal"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


class JournalUnavailable(Exception):
    """The journal cannot take the entries: full, or its disk is; `str()` is one line."""


class _Spool:
    """One file of entries, locked by this process. `offset` is where the first one not yet replayed begins."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.offset = 0
        self.size = os.fstat(descriptor).st_size
        self.waiting = 0
        self.damaged = False

    def read(self, count: int) -> tuple[list[Entry], int]:
        """The next `count` entries at the most, and the offset behind them."""
        entries: list[Entry] = []
        offset = self.offset
        with self.path.open("rb") as file:
            file.seek(offset)
            while len(entries) < count and offset < self.size:
                line = file.readline()
                entry = _parse(line)
                if entry is not None:
                    entries.append(entry)
                elif line.endswith(b"\n"):
                    self.damaged = True
                    logger.error("%s is damaged at byte %d: the record there is lost", self.path, offset)
                offset += len(line)
        return entries, offset

    def close(self, remove: bool) -> None:
        if remove:
            # A file with damage is kept for people to look at; it is not replayed again.
            self.path.rename(self.path.with_suffix(".damaged")) if self.damaged else self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


class Journal:
    """Entries that wait for the database, oldest first. `append` is for any thread, the rest for one."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._own: _Spool | None = None
        self._torn = False
        self._adopted: list[_Spool] = []
        self._behind = 0

    @property
    def waiting(self) -> int:
        """Entries that are on disk here and not yet in the database."""
        own = self._own
        return (own.waiting if own is not None else 0) + sum(spool.waiting for spool in self._adopted)

    def append(self, entries: Sequence[Entry]) -> None:
        """Return when `entries` are on disk. On an error none of them is kept.

        Raises:
            JournalUnavailable: it holds as much as it may, or the disk takes no more.
        """
        data = b"".join(map(_line, entries))
        with self._lock:
            try:
                own = self._own = self._own or self._create()
                if own.size + len(data) > self.max_bytes:
                    raise JournalUnavailable(f"the journal in {self._folder} holds all it may, {self.max_bytes} bytes")
                self._cut_torn_end()
                self._torn = True
                _write_all(own.descriptor, data)
                os.fdatasync(own.descriptor)
            except OSError as error:
                with suppress(OSError):  # then the next append does it, or is refused too
                    self._cut_torn_end()
                reason = (error.strerror or str(error)).lower()
                raise JournalUnavailable(f"the journal in {self._folder} is not usable: {reason}") from error
            self._torn = False
            own.size += len(data)
            own.waiting += len(entries)

    def adopt(self) -> None:
        """Take over what processes that are gone have left."""
        for path in sorted(self._folder.glob("*" + SUFFIX)) if self._folder.is_dir() else ():
            descriptor = os.open(path, os.O_RDWR)
            try:
                # A second descriptor of a file that this process holds is refused too.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                continue
            spool = _Spool(path, descriptor)
            spool.waiting = _count_lines(path)
            logger.warning("%d ledger records left in %s will be replayed", spool.waiting, path)
            self._adopted.append(spool)

    def oldest(self, count: int) -> list[Entry]:
        """The next `count` entries at the most, in the order they came; none: all have been replayed."""
        while self._adopted:
            entries, self._behind = self._adopted[0].read(count)
            if entries:
                return entries
            self._adopted.pop(0).close(remove=True)
        if self._own is None:
            return []
        entries, self._behind = self._own.read(count)
        if not entries:
            self._empty(self._own)
        return entries

    def forget(self, entries: Sequence[Entry]) -> None:
        """What `oldest` gave is in the database."""
        spool = self._adopted[0] if self._adopted else self._own
        assert spool is not None
        with self._lock:
            spool.offset = self._behind
            spool.waiting -= len(entries)

    def set_aside(self, entries: Sequence[Entry]) -> Path:
        """Keep entries that the database will never take, for people to look at; gives the file."""
        path = self._folder / "refused.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            _write_all(descriptor, b"".join(map(_line, entries)))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._sync_names()
        return path

    def close(self) -> None:
        """Give the files up. One that still holds entries stays, for the next process."""
        with self._lock:
            for spool in (*self._adopted, self._own):
                if spool is not None:
                    spool.close(remove=spool.offset >= spool.size)
            self._adopted, self._own = [], None

    def _cut_torn_end(self) -> None:
        """Take away what a failed append has left: a later line must not be glued to it."""
        if self._torn and self._own is not None:
            os.ftruncate(self._own.descriptor, self._own.size)
        self._torn = False

    def _create(self) -> _Spool:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._sync_names()
        return _Spool(path, descriptor)

    def _sync_names(self) -> None:
        """A file's name must outlive the machine too."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _empty(self, own: _Spool) -> None:
        with self._lock:
            if own.offset < own.size:  # it has grown
                return
            os.ftruncate(own.descriptor, 0)
            own.offset = own.size = own.waiting = 0


def _line(entry: Entry) -> bytes:
    text = _encode(entry)
    return b"%08x %b\n" % (crc32(text), text)


def _parse(line: bytes) -> Entry | None:
    """None: the line is torn or damaged."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    try:
        return _decode(text) if int(checksum, 16) == crc32(text) and line.endswith(b"\n") else None
    except ValueError:  # msgspec's errors are ValueErrors too
        return None


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
