"""Long work in Python on a thread, with which the event loop takes turns every few milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from serving.gateway.cleaning.turns import FairTurns

P = ParamSpec("P")
T = TypeVar("T")

SHORT_BYTES = 16 * 1024
"""No work on so little takes long."""
# One at a time: the event loop waits for each thread that computes whenever it wants to go on.
_turns = FairTurns(1, None)


async def apart(tenant: str, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns: called at once for a text of the usual size, and on a thread for a long one, one by one.

    Work must be linear in `size`, in bytes, and call no C function for long: the interpreter's lock is held for that.
    """
    if size <= SHORT_BYTES:
        return work(*args, **kwargs)
    async with _turns.turn(tenant, size):
        return await on_thread(work, *args, **kwargs)


async def on_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns, on a thread. When cancelled it ends with the work.

    A thread cannot be stopped: whoever asks and leaves would else have any number of them at work.
    """
    working = asyncio.get_running_loop().run_in_executor(None, partial(work, *args, **kwargs))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise
