"""Arithmetic in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving.gateway.api.compute_process import ComputeProcess
from serving.gateway.errors import Overloaded
from tests.support.running import wait_until


async def test_it_is_another_process_and_begins_anew_when_it_has_died() -> None:
    process = ComputeProcess()
    first = await process.run(os.getpid)
    assert first not in (os.getpid(), 0)
    assert await process.run(int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await process.run(int, "seven")

    with pytest.raises(Overloaded):
        await process.run(os._exit, 1)

    assert await process.run(os.getpid) not in (os.getpid(), first)


def test_it_ends_with_the_process_that_began_it(tmp_path: Path) -> None:
    program = tmp_path / "begins_one.py"
    program.write_text(
        "import asyncio, os\n"
        "from serving.gateway.api.compute_process import ComputeProcess\n"
        "if __name__ == '__main__':\n"
        "    print(asyncio.run(ComputeProcess().run(os.getpid)), flush=True)\n"
        "    input()\n"
    )
    began = subprocess.Popen([sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert began.stdout is not None
    pid = int(began.stdout.readline())
    began.send_signal(signal.SIGKILL)
    began.wait(5)

    wait_until(lambda: not Path(f"/proc/{pid}").exists() or _is_dead(pid), 10, "the process has ended")
    began.stdout.close()
    assert began.stdin is not None
    began.stdin.close()


def _is_dead(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
