"""Which code ran."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def code_version() -> str:
    """The git commit of the checkout that this code runs from, `-dirty` when it was edited; else the release."""
    here = Path(__file__).resolve().parents[2]
    try:
        commit = _git(here, "rev-parse", "HEAD")
        edited = _git(here, "status", "--porcelain", "--untracked-files=no")
        return f"git:{commit}{'-dirty' if edited else ''}"
    except (OSError, subprocess.CalledProcessError):
        return _release()


def _git(folder: Path, *arguments: str) -> str:
    # Not any repository above an installed package, only the checkout of this code itself.
    command = ["git", "--git-dir", str(folder / ".git"), "--work-tree", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _release() -> str:
    try:
        return f"signet {version('signet')}"
    except PackageNotFoundError:
        return "unknown"
