"""A bound for the CPU time of a piece of work, whatever it is doing: regular expressions are interrupted too."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class BudgetSpent(BaseException):
    """Raised from a signal's handler, anywhere in the work: no `except Exception` on the way takes it."""


class CpuBudget:
    """Runs work for so many seconds of this process's own CPU time at the most.

    Time passes by the kernel's clock tick, 4 ms on most machines. Works on the main thread, where signals are handled.
    """

    def __init__(self) -> None:
        """Raises: ValueError: this is not the main thread."""
        self._armed = False
        # Of the three timers this one counts what the process computes, and no profiler uses it.
        signal.signal(signal.SIGVTALRM, self._spent)

    @classmethod
    def if_possible(cls) -> CpuBudget | None:
        """None on other threads than the main one."""
        return cls() if threading.current_thread() is threading.main_thread() else None

    def run(self, seconds: float, work: Callable[[], T]) -> T:
        """What `work` returns.

        Raises:
            BudgetSpent: it did not end in time.
        """
        self._armed = True
        try:
            # Again and again: an exception that is raised in a destructor goes nowhere.
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
            return work()
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def _spent(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            raise BudgetSpent
