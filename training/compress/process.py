"""Running the worker: one job in, progress on the way, one result out; nothing is left running."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from serving.processes.child import Child
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

    The worker never outlives us (`serving.processes`): not when we are interrupted, and not when we are killed.
    Raises NotQuantizable when the worker refuses the model, WorkerFailed when it ends without a result.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    result = None
    with tempfile.NamedTemporaryFile("w", suffix=".json") as told, log.open("wb") as words:
        json.dump(job, told)
        told.flush()
        environment = {**WORKER_ENVIRONMENT, **os.environ}
        child = Child([*command, told.name], environment, subprocess.PIPE, grace_seconds=0, errors=words)
        assert child.stdout is not None
        try:
            result = _follow(child.stdout, on_progress or (lambda step, done, total: None))
            child.wait(math.inf)
        finally:
            child.kill()
    code = child.poll()
    if result is None or code:
        raise WorkerFailed(f"the compressor failed: {_reason(code, log)}. Details: {log}")
    return result


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


def _reason(code: int | None, log: Path) -> str:
    if code == 128 + signal.SIGKILL:
        return "it was killed, most often for want of memory"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:240].rstrip(".") if lines else f"it ended with exit code {code} and said nothing"
