"""A file of secrets that several processes share: read with care for its mode, replaced whole, under a lock."""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from serving.file_lock import file_lock

# What a write to a mounted secret, or to a file of another user, fails with.
READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def read_document(path: Path, what: str) -> Any:
    """The file's JSON; `what` it is, for the error. Raises ValueError with one line for the user."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o007:
            raise ValueError(f"the {what} {path} is open to every user (mode {mode:04o}): run chmod 600 {path}")
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"there is no {what} at {path}") from None
    except PermissionError:
        raise ValueError(f"the {what} {path} may not be read by this user") from None
    except OSError as error:
        raise ValueError(f"the {what} {path} cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        # Without the decoder's own words, which may quote the content.
        raise ValueError(f"the {what} {path} is damaged: restore it from a backup") from None


def replace_document(path: Path, document: Any) -> None:
    """Write the whole document or nothing, readable by its owner only (or as the file was before)."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)
        json.dump(document, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(descriptor)
    os.replace(temporary, path)


def lock_beside(path: Path) -> AbstractContextManager[None]:
    """Hold the lock beside the file: the file itself is replaced, which would leave a lock on it behind."""
    return file_lock(path.with_name(path.name + ".lock"), 0o600)


def file_version(path: Path) -> tuple[int, int, int] | None:
    """Changes whenever the file is replaced; None when it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
