"""A running `signet serve`, as the tests that share it see it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.running import still_running

REPOSITORY = Path(__file__).parents[2]
DEFAULT_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Stack:
    """A running `signet serve`."""

    home: Path
    gateway_url: str
    engine_url: str
    key: str
    process: subprocess.Popen[bytes]
    temporary: Path
    """What its processes take for `/tmp`."""

    @property
    def output(self) -> str:
        return (self.home / "serve.log").read_text()

    def tree(self) -> list[psutil.Process]:
        """What it has started that still runs."""
        return still_running(psutil.Process(self.process.pid).children(recursive=True))


def fresh_home(prepared: Path, folder: Path) -> Path:
    """A home of its own, with the default model in its registry."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("registry", "keys"):
        shutil.copytree(prepared / part, folder / part, copy_function=os.link)
    return folder
