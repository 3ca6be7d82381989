"""A helper process for heavy arithmetic. Some of it holds the interpreter's lock for most of a second, so a thread of
the gateway's own process would block every request."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from typing import ParamSpec, TypeVar

from serving.gateway.errors import Overloaded

P = ParamSpec("P")
R = TypeVar("R")

# Answers and engines on the same machine go first.
_NICENESS = 5


class ComputeProcess:
    """Started when first needed, and again when it has died. It ends with its parent, however that ends."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    async def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What `function` returns there; function, arguments and exceptions are pickled.

        Raises:
            Overloaded: the process died, of too little memory for one.
        """
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin)
        pool = self._pool
        try:
            return await asyncio.wrap_future(pool.submit(function, *args, **kwargs))
        except BrokenExecutor:
            if self._pool is pool:
                self._pool = None
            pool.shutdown(wait=False)
            message = "The process that does this work has died. Try again."
            raise Overloaded(message, headers=((b"retry-after", b"2"),)) from None


def _begin() -> None:
    # Ctrl-C reaches every process of the terminal: it is for the one that began this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
