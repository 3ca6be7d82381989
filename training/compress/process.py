"""Running the worker: one job in, progress on the way, one result out; nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from training.compress.errors import NotQuantizable, WorkerFailed

WORKER_ENVIRONMENT = {
    # Nothing is ever downloaded: every model and tokenizer is a folder.
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # GPTQ is a hundred thousand small steps. Threads that spin between them stop each other where the cores have other
    # work as well, which an engine beside us is: over 250 s instead of 45 on two busy cores.
    "OMP_WAIT_POLICY": "passive",
}
"""Unless the user's own environment says otherwise."""

OnProgress = Callable[[str, int, int], None]
"""Called with the step, how much of it is done, and of how much."""


def run_worker(
    command: Sequence[str], job: dict[str, Any], log: Path, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Run one job to its end and return its result; the libraries' own words go to `log`.

    The worker is in a process group of its own, which is killed when anything ends us early, Ctrl-C included. Its
    standard input stays open meanwhile: when we are killed, the kernel closes it and the worker ends by itself.
    Raises NotQuantizable when the worker refuses the model, WorkerFailed when it ends without a result.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    settings = {**WORKER_ENVIRONMENT, **os.environ}
    with log.open("wb") as words:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env=settings,
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    result = None
    try:
        # A worker that dies at once is told by its exit code.
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        result = _follow(process.stdout, on_progress or (lambda step, done, total: None))
        process.wait()
    finally:
        end_group(process)
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
    if result is None or process.returncode:
        raise WorkerFailed(f"the compressor failed: {_reason(process.returncode, log)}. Details: {log}")
    return result


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its own group, and whatever it has started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _follow(output: IO[bytes], on_progress: OnProgress) -> dict[str, Any] | None:
    for line in output:
        message = json.loads(line)
        event = message.pop("event")
        if event == "progress":
            on_progress(message["step"], message["done"], message["total"])
        elif event == "refused":
            raise NotQuantizable(message["reason"])
        else:
            return dict(message)
    return None


def _reason(code: int, log: Path) -> str:
    if code == -signal.SIGKILL:
        return "it was killed, most often for want of memory"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:240].rstrip(".") if lines else f"it ended with exit code {code} and said nothing"
