"""How full a volume is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from serving.doctor.finding import Finding, error, warning

GB = 1024**3
# A database with its log, a journal of 256 MB and the programs' logs.
_LEAST_BYTES, _FEW_BYTES, _FEW = GB // 4, 2 * GB, 0.05


def check_volume(folder: Path, holds: str) -> Iterator[Finding]:
    """`holds`: what is kept there, to complete "the volume of …"."""
    folder = existing_parent(folder)
    usage = shutil.disk_usage(folder)
    yield from judge_volume(f"the volume of {holds} ({folder})", usage.free, usage.total)


def judge_volume(volume: str, free_bytes: int, total_bytes: int) -> Iterator[Finding]:
    """`volume`: which one, as a sentence begins."""
    left = f"{free_bytes / GB:.1f} of {total_bytes / GB:.1f} GB are free"
    why = "without room no record can be written, and without its record no answer leaves the gateway"
    fix = "make room, or a larger volume; `signet ledger export` copies old requests elsewhere"
    if free_bytes < _LEAST_BYTES:
        yield error(f"{volume} is full: {left}", why, fix)
    elif free_bytes < min(_FEW_BYTES, _FEW * total_bytes):
        yield warning(f"{volume} is nearly full: {left}", why, fix)


def existing_parent(path: Path) -> Path:
    """The path itself, or what it will be made in."""
    # Unlike Path.exists, this does not raise for what lies below a closed folder.
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return path
