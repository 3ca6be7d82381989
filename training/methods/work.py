"""Where a run puts its result together before the registry takes it over whole."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WORK_PREFIX = "training-"
# A run that has left its folder alone for so long was killed.
WORK_ABANDONED_SECONDS = 7 * 24 * 3600


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
