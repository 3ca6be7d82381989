"""Ctrl-C and SIGTERM wait for the end of a step, where all that has been learned can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_interrupts() -> Iterator[Callable[[], bool]]:
    """Hold the first interrupt during the block, which asks whether there was one. A second one acts at once."""
    # Python lets only the main thread handle signals.
    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    # Signals that are ignored, or end the process, go on doing so.
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    was_interrupted = False

    def release() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hold(number: int, frame: FrameType | None) -> None:
        nonlocal was_interrupted
        was_interrupted = True
        release()

    for number in before:
        signal.signal(number, hold)
    try:
        yield lambda: was_interrupted
    finally:
        release()
