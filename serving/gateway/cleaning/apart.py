"""What only looks through a large question: on a thread, with which the event loop takes turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from serving.gateway.context import RequestContext
from serving.guard.limits import SMALL_BYTES

P = ParamSpec("P")
T = TypeVar("T")


async def apart(context: RequestContext, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns: called at once for a question of the usual size, and on a thread for a large one.

    For work in Python, linear in the question: one long call of C would hold the event loop all the same.
    """
    if len(context.raw_body) <= SMALL_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
