"""Long work in Python on a thread, to which the event loop yields every few milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from serving.gateway.cleaning.fair_semaphore import FairSemaphore

P = ParamSpec("P")
T = TypeVar("T")

SHORT_BYTES = 16 * 1024
"""Work on so few bytes is always short."""
# One at a time: the event loop waits for each thread that computes whenever it wants to go on.
_threads = FairSemaphore(1, None)


async def offload(tenant: str, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of `work`: called at once for a text of the usual size, and on a thread for a long one, one at a time.

    Work must be linear in `size`, in bytes, and call no C function for long: the interpreter's lock is held for that.
    """
    if size <= SHORT_BYTES:
        return work(*args, **kwargs)
    async with _threads.slot(tenant, size):
        return await on_thread(work, *args, **kwargs)


async def on_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of `work`, on a thread. When cancelled, it still waits for the work to end.

    A thread cannot be stopped: otherwise a client that asks and leaves could occupy any number of them.
    """
    working = asyncio.get_running_loop().run_in_executor(None, partial(work, *args, **kwargs))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise
