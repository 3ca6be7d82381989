"""What a disk could not do, as one line, however the library words it that was writing."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

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
