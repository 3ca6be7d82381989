"""One cleaning process, as its gateway sees it."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress

from serving.gateway.cleaning.messages import LENGTH_BYTES, Job, Reply, Setup, decode_reply, frame

# Beyond the CPU time that a request may take: a machine may be busy, and a process has to start.
_WALL_FACTOR = 10
_WALL_MARGIN_S = 30.0


class ProcessDied(Exception):
    """The process ended without an answer."""


class CleaningProcess:
    """Cleans one request at a time."""

    def __init__(self, process: asyncio.subprocess.Process, setup: Setup) -> None:
        self._process = process
        self.setup = setup
        """What it was started with."""

    @classmethod
    async def start(cls, setup: Setup) -> CleaningProcess:
        """Start one. Raises OSError."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "serving.gateway.cleaning.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            # Ctrl-C in the terminal reaches the gateway only.
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(frame(setup))
        return cls(process, setup)

    async def clean(self, job: Job) -> Reply:
        """What became of a request. When anything is raised, a cancellation too, the process is of no more use.

        Raises:
            ProcessDied: it ended.
            TimeoutError: it gave no answer for far longer than its budget.
        """
        try:
            return await asyncio.wait_for(self._exchange(job), _WALL_FACTOR * self.setup.cpu_budget_s + _WALL_MARGIN_S)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ProcessDied from None

    async def _exchange(self, job: Job) -> Reply:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(frame(job))
        await stdin.drain()
        size = int.from_bytes(await stdout.readexactly(LENGTH_BYTES), "big")
        return decode_reply.decode(await stdout.readexactly(size))

    async def end(self) -> None:
        """Kill it, and wait until it is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
