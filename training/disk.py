"""Where a run puts its result together, and what the disk could not do: one line, however the library words it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WORK_PREFIX = "training-"
# A run that has left its folder alone for so long was killed.
WORK_ABANDONED_SECONDS = 7 * 24 * 3600
_OF_WRITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO})
# As Rust words it, in which safetensors and tokenizers are written.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_FULL_BYTES = 64 << 10


def disk_fault(error: BaseException, home: Path) -> str | None:
    """`FILE: cannot be written: why` where the disk is to blame, else None; `home` stands in for an unknown file."""
    for cause in causes(error):
        number = _errno(cause, home)
        if number in _OF_WRITING:
            where = getattr(cause, "filename", None) or home
            return f"{where}: cannot be written: {os.strerror(number)}"
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised for or while handling, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _errno(error: BaseException, home: Path) -> int:
    if isinstance(error, OSError):
        return error.errno or 0
    told = _OS_ERROR.search(str(error))
    if told is not None:
        return int(told[1])
    # PyTorch's writer loses the reason.
    lost = isinstance(error, RuntimeError) and "inline_container" in str(error)
    return errno.ENOSPC if lost and shutil.disk_usage(home if home.exists() else home.parent).free < _FULL_BYTES else 0


@contextmanager
def work_folder(home: Path) -> Iterator[Path]:
    """An empty folder beside the registry, so that registering it is a rename; it is gone after the block."""
    cache = home / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(cache)
    with tempfile.TemporaryDirectory(dir=cache, prefix=WORK_PREFIX) as work:
        folder = Path(work) / "checkpoint"
        folder.mkdir()
        yield folder


def _remove_abandoned(cache: Path) -> None:
    for work in cache.glob(f"{WORK_PREFIX}*"):
        if work.stat().st_mtime < time.time() - WORK_ABANDONED_SECONDS:
            shutil.rmtree(work, ignore_errors=True)
