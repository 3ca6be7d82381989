"""Progress on standard error: a bar where someone watches, a line now and then where a log does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

# Often enough to see life in a log, seldom enough not to fill it.
LOG_INTERVAL_SECONDS = 10.0


OnProgress = Callable[[int, int], None]
"""Takes how much is done, and of how much: a `Track` without its note."""


class Track(Protocol):
    """One step's progress."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def __call__(self, done: int, total: int, note: str = "") -> None:
        self._progress.update(self._task, completed=done, total=total, note=note)


class _Lines:
    def __init__(self, label: str, stream: TextIO) -> None:
        self._label = label
        self._stream = stream
        self._started = self._last = time.monotonic()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        # A step that is over before the first interval says nothing, as a bar would hardly have been seen.
        if now - self._last < LOG_INTERVAL_SECONDS and (done < total or self._last == self._started):
            return
        self._last = now
        left = (now - self._started) / max(done, 1) * (total - done)
        text = f"{self._label}: {done}/{total}, {left:.0f} s left"
        print(text + (f", {note}" if note else ""), file=self._stream, flush=True)


@contextmanager
def track(label: str, enabled: bool = True, stream: TextIO | None = None) -> Iterator[Track]:
    """Show a step's progress until the block ends; `enabled=False` shows nothing (other ranks, tests)."""
    stream = stream or sys.stderr
    console = Console(file=stream)
    if not enabled:
        yield lambda done, total, note="": None
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as progress:
            yield _Bar(progress, progress.add_task(label, total=None, note=""))
    else:
        yield _Lines(label, stream)


@contextmanager
def track_bytes(label: str, enabled: bool = True) -> Iterator[BytesTrack]:
    """Progress for the registry's `on_progress`, counted in megabytes."""
    with track(f"{label} (MB)", enabled) as step:
        yield lambda file, done, total: step(done // 1_000_000, total // 1_000_000, file)


class BytesTrack(Protocol):
    """What the registry calls as it reads: the file, bytes done and bytes in all."""

    def __call__(self, file: str, done: int, total: int, /) -> None: ...
