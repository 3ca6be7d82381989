"""The compressor's own Python environment: made on first use, from pinned packages, and kept.

llmcompressor needs older versions of packages that the engine pins, so the two cannot share an environment.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from serving.file_lock import file_lock
from serving.pip import (
    cpu_index_arguments,
    has_gpu,
    hashed,
    last_line,
    pip_command,
    takes_cpu_torch,
    why_it_failed,
)
from serving.processes.child import Child
from training.compress.errors import EnvironmentUnavailable
from training.progress import Track, track

# Versions and hashes of all packages, made by deploy/pin.py.
PACKAGES = Path(__file__).with_name("packages.txt")
TORCH = Path(__file__).with_name("torch.txt")
TORCH_CPU = Path(__file__).with_name("torch_cpu.txt")

# Written last: an environment without it was interrupted, and is made anew.
COMPLETE = "signet-complete"

# Environment and pip's copies of the downloads together: measured 1.7 and 7, rounded up.
DISK_GB = {"cpu": 3, "gpu": 10}

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Environment:
    """Where the environment lies, or will."""

    folder: Path

    @classmethod
    def below(cls, cache: Path) -> Environment:
        """The one for this machine, this Python and today's pins: any other needs packages of its own."""
        pinned = "".join(file.read_text() for file in _pinned())
        facts = f"{pinned} {sys.version_info[:2]} {sys.platform} {platform.machine()} {_device()}"
        return cls(cache / f"compress-{hashlib.sha256(facts.encode()).hexdigest()[:12]}")

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def is_complete(self) -> bool:
        """Whether it was finished, and the Python that it was made from is still there."""
        return (self.folder / COMPLETE).exists() and self.python.exists()


def ensure_environment(cache: Path, log: Path, show_progress: bool = True) -> Path:
    """Return the environment's Python, making the environment first where it is missing: a minute or more.

    Safe to interrupt, and to call from several processes at once: one makes it and the others wait. pip's own words
    go to `log`. Raises EnvironmentUnavailable.
    """
    environment = Environment.below(cache)
    if environment.is_complete:
        return environment.python
    cache.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with _lock(cache, show_progress):
        if not environment.is_complete:  # else another run made it while we waited
            _check_disk(cache)
            _make(environment, log, show_progress)
    return environment.python


def _make(environment: Environment, log: Path, show_progress: bool) -> None:
    shutil.rmtree(environment.folder, ignore_errors=True)
    _create(environment)
    with track("Preparing the compressor, once (packages)", show_progress) as progress:
        install = [
            "install",
            # What is imported is compiled then: all of it takes as long as the rest of the installation.
            "--no-compile",
            "--progress-bar=off",
            *(argument for file in _pinned() for argument in hashed(file)),
            *(cpu_index_arguments(environment.python, TORCH_CPU) if takes_cpu_torch() else []),
        ]
        _run_pip(environment, install, log, progress)
    (environment.folder / COMPLETE).touch()


def _create(environment: Environment) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "venv", str(environment.folder)], capture_output=True, text=True, check=False
    )
    if result.returncode == 0:
        return
    if "ensurepip" in result.stdout:
        raise EnvironmentUnavailable(
            "the compressor needs an environment of its own, and this Python has no venv: install it first "
            "(on Debian and Ubuntu: apt install python3-venv)"
        )
    raise EnvironmentUnavailable(f"{environment.folder} could not be created: {last_line(result.stderr)}")


def _run_pip(environment: Environment, arguments: list[str], log: Path, progress: Track) -> None:
    """Run pip to its end, following its log; it dies with us."""
    settings = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    with log.open("wb") as output:
        pip = Child(pip_command(environment.python, *arguments), settings, output, grace_seconds=0)
    shown = None
    try:
        while pip.poll() is None:
            now = _progress_of(log.read_text(errors="replace"), environment.folder)
            if now != shown:
                progress(*now)
            shown = now
            time.sleep(POLL_SECONDS)
    finally:
        pip.kill()
    if pip.poll():
        why = why_it_failed(log.read_text(errors="replace"))
        raise EnvironmentUnavailable(f"the compressor's environment could not be made: {why}. Details: {log}")


def _progress_of(said: str, folder: Path) -> tuple[int, int, str]:
    """How far pip is: packages done twice, once when found and once when installed, of how many, and the latest."""
    pins = sum(len(re.findall(r"^\w.*==", file.read_text(), re.MULTILINE)) for file in _pinned())
    collected = re.findall(r"^Collecting ([\w.-]+)", said, re.MULTILINE)
    if "\nInstalling collected packages:" not in said:
        loading = re.findall(r"^\s+(?:Downloading|Using cached) (\S+).*?(\([\d.]+ [kMG]?B\))?$", said, re.MULTILINE)
        name, size = loading[-1] if loading else (collected[-1] if collected else "", "")
        # pip may collect a package twice; the count never exceeds the pins.
        return min(len(collected), pins), 2 * pins, f"{re.split('-[0-9]', name)[0].rpartition('/')[2]} {size}".strip()
    installed = sum(1 for _ in folder.glob("lib/python*/site-packages/*.dist-info"))
    return pins + min(installed, pins), 2 * pins, "installing"


def _pinned() -> tuple[Path, Path]:
    return (TORCH_CPU if takes_cpu_torch() else TORCH), PACKAGES


def _check_disk(cache: Path) -> None:
    needed, free = DISK_GB[_device()], shutil.disk_usage(cache).free / 1e9
    if free < needed:
        raise EnvironmentUnavailable(
            f"the compressor's environment needs {needed} GB of disk, "
            f"and {free:.1f} GB are free below {cache}: make room"
        )


def _device() -> str:
    return "gpu" if has_gpu() else "cpu"


def _lock(cache: Path, show_progress: bool) -> AbstractContextManager[None]:
    """One maker at a time."""

    def say() -> None:
        if show_progress:
            print("Waiting for another run that prepares the compressor", file=sys.stderr)  # noqa: T201

    return file_lock(cache / "compress.lock", on_wait=say)
