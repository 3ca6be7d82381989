"""Long work in Python on a thread, with which the event loop takes turns every few milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from serving.gateway.cleaning.turns import FairTurns
from serving.gateway.context import RequestContext

P = ParamSpec("P")
T = TypeVar("T")

SHORT_BYTES = 16 * 1024
"""No work on so little takes long."""
# One at a time: the event loop waits for each thread that computes whenever it wants to go on.
_turns = FairTurns(1, None)


async def apart(context: RequestContext, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns: called at once for a text of the usual size, and on a thread for a long one, one by one.

    Work must be linear in `size`, in bytes, and call no C function for long: the interpreter's lock is held for that.
    """
    if size <= SHORT_BYTES:
        return work(*args, **kwargs)
    assert context.principal is not None
    async with _turns.turn(context.principal.tenant, size):
        return await asyncio.to_thread(work, *args, **kwargs)
