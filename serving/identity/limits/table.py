"""A file of accounts that several processes map into memory: who is alive, where an account is, and one lock.

Layout, in words of eight bytes, native order (the file never leaves its machine, nor outlives its processes):

    0            magic and version
    1            columns ever used, from the first
    2            whose turn it is: which lock excludes (see below)
    3 · 4        process that took it last · how often it was taken
    64 …         SLOTS records of STRIDE words:
                 0–1 digest of the account's name (0: never used) · 2 time of the last change (float) ·
                 3–5 the account's numbers · 6–7 unused · 8 … 8 + COLUMNS: what each process holds

A process owns one column as long as it holds the kernel's lock on that column's byte; the kernel lets go of it when
the process ends, however it ends, and then what the column holds can be taken back.

Steps exclude each other by a lock of the same kind, on the byte behind the columns that word 2 names. It is held for
microseconds; a process that the machine lets wait meanwhile is waited for, since two inside at once would lose counts.
One that was stopped (SIGSTOP, a debugger) must not stop all others: they go on to the next byte, together.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

MAGIC = 0x5349474E4C494D02
COLUMNS = 64
SLOTS = 32_768
FIRST_SLOT = 64
FIRST_COLUMN = 8
STRIDE = FIRST_COLUMN + COLUMNS
_SIZE = 8 * (FIRST_SLOT + SLOTS * STRIDE)
_PROBES = 256
_TURN, _HOLDER, _TAKEN = 2, 3, 4
# How long a holder is waited for until it is asked whether it was stopped, and, if not, until it is passed over anyway.
_LOOK_AFTER_S = 0.05
_LOCK_PATIENCE_S = 2.0


class TableError(ValueError):
    """The file cannot be used; `str()` is one line for the user."""


class Table:
    """The mapped file, seen by one process. `floats` and `words` are the same memory."""

    def __init__(self, file: Path, forget_after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._forget_after_s = forget_after_s
        self._clock = clock
        self._slots: dict[str, tuple[int, int, int]] = {}
        self._pid = os.getpid()
        self._turn = 0
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            # A file of its own: on a network file system a lock on the whole and those on bytes are one.
            lock = file.with_name(f"{file.name}.lock")
            self._lock_fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            try:
                self._prepare(file)
            finally:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
        except OSError as error:
            raise TableError(f"cannot share limits between workers in {file}: {error.strerror}") from error

    def _prepare(self, file: Path) -> None:
        if not any(self._is_alive(column) for column in range(COLUMNS)):
            # Nobody uses what is there: limits begin afresh, as after every start, and budgets from the ledger.
            os.ftruncate(self._fd, 0)
            os.ftruncate(self._fd, _SIZE)
        elif os.fstat(self._fd).st_size != _SIZE:
            raise TableError(f"{file} is in use by another version of Signet: stop it first")
        self._map = mmap.mmap(self._fd, _SIZE)
        self._bytes = memoryview(self._map)
        self.words = self._bytes.cast("q")
        self.floats = self._bytes.cast("d")
        if self.words[0] not in (0, MAGIC):
            raise TableError(f"{file} is in use by another version of Signet: stop it first")
        self.words[0] = MAGIC
        self.column = self._claim()
        self.words[1] = max(self.words[1], self.column + 1)

    def close(self) -> None:
        """Leave; what this process still holds is taken back by the others."""
        self.words.release()
        self.floats.release()
        self._bytes.release()
        self._map.close()
        os.close(self._fd)
        os.close(self._lock_fd)

    def lock(self) -> None:
        """Keep other processes out for a moment."""
        turn = self.words[_TURN]
        if not self._enter(turn):
            turn = self._wait_for_lock()
        self._turn = turn
        self.words[_HOLDER] = self._pid
        self.words[_TAKEN] += 1

    def unlock(self) -> None:
        self._lock_byte(fcntl.F_UNLCK, self._turn)

    def _enter(self, turn: int, follows: int | None = None) -> bool:
        """Take this turn's lock, unless it is taken; `follows`: the turn that is passed over for it."""
        if not self._lock_byte(fcntl.F_WRLCK, turn):
            return False
        if self.words[_TURN] == (turn if follows is None else follows):
            self.words[_TURN] = turn
            return True
        self._lock_byte(fcntl.F_UNLCK, turn)
        return False

    def _wait_for_lock(self) -> int:
        """Returns the turn that was entered."""
        seen: tuple[int, int] | None = None
        since = 0.0
        while True:
            turn, now = self.words[_TURN], time.monotonic()
            if self._enter(turn):
                return turn
            if seen != (turn, self.words[_TAKEN]):
                seen, since = (turn, self.words[_TAKEN]), now
            waited_s = now - since
            if waited_s < _LOOK_AFTER_S:
                time.sleep(20e-6)
                continue
            holder = self.words[_HOLDER]
            if (waited_s > _LOCK_PATIENCE_S or _is_stopped(holder)) and self._enter(turn + 1, follows=turn):
                log.warning("passed over a process that holds the lock of the limits", extra={"pid": holder})
                return turn + 1
            time.sleep(1e-3)

    def _lock_byte(self, kind: int, turn: int) -> bool:
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock(kind, COLUMNS + turn))
        except BlockingIOError:
            return False
        return True

    def slot(self, account: str) -> int:
        """The first word of an account's record, made when missing. Call with the lock held.

        Raises:
            TableError: too many accounts have open requests.
        """
        known = self._slots.get(account)
        words = self.words
        if known is not None and words[known[0]] == known[1] and words[known[0] + 1] == known[2]:
            return known[0]
        high, low = struct.unpack("qq", hashlib.blake2b(account.encode(), digest_size=16).digest())
        high = high or 1
        slot = self._find(high, low)
        if len(self._slots) > SLOTS:
            self._slots.clear()
        self._slots[account] = (slot, high, low)
        return slot

    def _find(self, high: int, low: int) -> int:
        words, reusable = self.words, -1
        for probe in range(_PROBES):
            slot = FIRST_SLOT + STRIDE * ((low + probe) % SLOTS)
            if words[slot] == high and words[slot + 1] == low:
                return slot
            if words[slot] == 0:
                reusable = slot if reusable < 0 else reusable
                break
            if reusable < 0 and self._is_forgettable(slot):
                reusable = slot
        if reusable < 0:
            raise TableError("too many keys and tenants have open requests at once")
        words[reusable : reusable + STRIDE] = _EMPTY
        words[reusable], words[reusable + 1] = high, low
        self.floats[reusable + 2] = self._clock()
        return reusable

    def _is_forgettable(self, slot: int) -> bool:
        return self._clock() - self.floats[slot + 2] >= self._forget_after_s and not self.held(slot)

    def held(self, slot: int) -> int:
        """What all processes hold of an account."""
        words, held = self.words, 0
        # Few columns: adding them one by one is cheaper than a slice.
        for word in range(slot + FIRST_COLUMN, slot + FIRST_COLUMN + words[1]):
            held += words[word]
        return held

    def take_back(self) -> int:
        """Empty the columns of processes that are gone; how many there were. Takes the lock by itself."""
        gone = [column for column in range(self.words[1]) if column != self.column and not self._is_alive(column)]
        held = [column for column in gone if any(self._column(column))]
        if held:
            self.lock()
            try:
                for column in held:
                    # Under the lock once more: a new process may have claimed it.
                    if not self._is_alive(column):
                        self._empty(column)
            finally:
                self.unlock()
        return len(held)

    def _claim(self) -> int:
        for column in range(COLUMNS):
            try:
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, column))
            except BlockingIOError:
                continue
            self._empty(column)
            return column
        raise TableError(f"more than {COLUMNS} gateway processes share one SIGNET_HOME")

    def _is_alive(self, column: int) -> bool:
        answer = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, column))
        return int(struct.unpack(_FLOCK, answer)[0]) != fcntl.F_UNLCK

    def _column(self, column: int) -> memoryview:
        return self.words[FIRST_SLOT + FIRST_COLUMN + column :: STRIDE]

    def _empty(self, column: int) -> None:
        values = self._column(column)
        for slot, value in enumerate(values):
            if value:
                values[slot] = 0


_EMPTY = memoryview(bytes(8 * STRIDE)).cast("q")
# struct flock on 64-bit Linux: type, whence, start, length, pid.
_FLOCK = "hhqqi4x"


def _flock(kind: int, byte: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0)


def _is_stopped(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # it is gone, and its lock with it
        return False
    return state in "Tt"
