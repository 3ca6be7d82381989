"""Holds work to time that grows in step with its size, on machines where anything may run beside it."""

from __future__ import annotations

import time
from collections.abc import Callable

Work = Callable[[], object]

UNMEASURABLE_S = 0.01


def assert_linear(work_of: Callable[[int], Work], size: int, *, limit: float = 7.0, tries: int = 5) -> None:
    """Fail where four times `size` takes `limit` times as long or longer, in each of `tries` tries.

    Quadratic work takes sixteen times as long. What is over in a hundredth of a second passes: it cannot be measured.

    Args:
        work_of: gives the work of a size; making it is not timed.
    """
    ratios = []
    for _ in range(tries):
        small, large = _seconds(work_of(size)), _seconds(work_of(4 * size))
        if large < UNMEASURABLE_S or large < limit * small:
            return
        ratios.append(large / small)
    raise AssertionError(f"four times the size takes {min(ratios):.1f} times as long or longer")


def _seconds(work: Work) -> float:
    """Processor time of this thread."""
    started = time.thread_time()
    work()
    return time.thread_time() - started
