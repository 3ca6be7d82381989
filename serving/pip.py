"""pip: how it is run, why it failed, and which package index has the right build of torch for this machine.

A common package index has torch for CUDA only on Linux: gigabytes that a machine without a GPU cannot use.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of CPU builds."""

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")

# What pip says when something outside of it went wrong, and what to tell the user. First match wins.
FAILURES = (
    (r"No space left on device", "the disk is full: make room"),
    (r"DO NOT MATCH THE HASHES", "a package differs from its hash: try again, or use another package index"),
    (
        r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|Temporary failure in name"
        r"|Network is unreachable|Connection refused|ProxyError|SSLError|from versions: none",
        "no package index was reached: check the network, and pip's settings (`pip config list`)",
    ),
    (
        r"No matching distribution found for (\S+)|The user requested \(constraint\) (\S+)",
        "the package index has no {} for this machine and Python",
    ),
    (r"Permission denied: '([^']+)'", "{} cannot be written: fix its owner or mode"),
)


def has_gpu() -> bool:
    """Whether an NVIDIA driver is loaded; in containers too, where the driver's files are those of the host."""
    return NVIDIA_DRIVER.exists()


def pip_command(python: Path, *arguments: str) -> list[str]:
    """pip in the environment of `python`, which neither asks nor looks for a newer one of itself."""
    return [str(python), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]


def why_it_failed(said: str) -> str:
    """What the user can do about a failure, or else pip's last error."""
    for pattern, reason in FAILURES:
        match = re.search(pattern, said)
        if match:
            return reason.replace("{}", match[match.lastindex] if match.lastindex else "")
    return last_line(said)


def last_line(said: str) -> str:
    """The last error that a program printed, or else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["no reason given"])[-1].removeprefix("ERROR: ")[:240].rstrip(".")


def takes_cpu_torch() -> bool:
    """Whether torch's CPU build is the one for this machine: the common builds for Linux bring CUDA."""
    return sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64") and not has_gpu()


def hashed(file: Path) -> list[str]:
    """pip's arguments to install what `file` lists, nothing else, and no file whose hash it does not name."""
    return ["--no-deps", "--require-hashes", "--requirement", str(file)]


def cpu_index_arguments(python: Path, pinned: Path) -> list[str]:
    """Further arguments for `pip install`, so that it has the CPU build of torch that `pinned` lists.

    None where pip, as it is set up here, has it. The build is asked for by its full version, so a pip that has none
    says so at once and downloads nothing.
    """
    question = ["install", "--dry-run", "--ignore-installed", "--quiet", *hashed(pinned)]
    # What it would install goes nowhere; its failure is the answer.
    dry_run = subprocess.run(
        pip_command(python, *question), capture_output=True, env={**os.environ, "PIP_RETRIES": "1"}
    )
    return [] if dry_run.returncode == 0 else ["--extra-index-url", CPU_INDEX]
