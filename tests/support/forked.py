"""`signet` as a process without its start: forked from one that has read all modules already.

Reading them takes seconds of processor time, and a run of the tests starts a hundred gateways.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["signet", "serving.gateway.cli", "serving.gateway.process.serve", "serving.gateway.process.listen"]
)


class ForkedSignet:
    """A `signet` command that runs; has what tests use of `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> None:
        self.args = list(arguments)
        self._process: ForkServerProcess = _CONTEXT.Process(target=_run, args=(self.args, dict(env), cwd, log))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        # What a failed test leaves would be waited for at the end.
        atexit.register(self.kill)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(arguments: list[str], env: dict[str, str], cwd: Path, log: Path) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("wb") as errors, open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    from signet import main

    try:
        raise SystemExit(main(arguments))
    finally:
        # As at an interpreter's end: first what threads hold, process pools among it, then what multiprocessing joins.
        threading._shutdown()  # type: ignore[attr-defined]
