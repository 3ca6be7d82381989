"""Which package index has the right build of torch for this machine.

A common package index has torch for CUDA only on Linux: gigabytes that a machine without a GPU cannot use.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of CPU builds."""

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def has_gpu() -> bool:
    """Whether an NVIDIA driver is loaded; in containers too, where the driver's files are those of the host."""
    return NVIDIA_DRIVER.exists()


def pip_command(python: Path, *arguments: str) -> list[str]:
    """pip in the environment of `python`, which neither asks nor looks for a newer one of itself."""
    return [str(python), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]


def torch_index_arguments(python: Path, torch: str) -> list[str]:
    """Further arguments for `pip install`, so that it takes the build of `torch` (as `torch==2.13.0`) for this machine.

    None where the common build is right: with a GPU, and off Linux on x86-64. None where pip, as it is set up here,
    finds a `+cpu` build by itself. That is asked for by its full version, so a pip that has none says so at once
    and downloads nothing.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64" or has_gpu():
        return []
    question = ["install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet", f"{torch}+cpu"]
    # What it would install goes nowhere; its failure is the answer.
    dry_run = subprocess.run(
        pip_command(python, *question), capture_output=True, env={**os.environ, "PIP_RETRIES": "1"}
    )
    return [] if dry_run.returncode == 0 else ["--extra-index-url", CPU_INDEX]
