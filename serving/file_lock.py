"""Locks between processes, held on a file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path, mode: int = 0o666, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock on a file, which is created with `mode`; the kernel releases it however the process ends.

    `on_wait` is called where another process, or another part of this one, holds it; it may raise instead of waiting.
    Lock a file of its own: one that is replaced takes its lock along.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
