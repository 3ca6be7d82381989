"""Reads a container file, and takes its build steps in a folder: without a container engine, and without root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

Instruction = tuple[str, str]
# Where the steps write; in the folder these are below it.
PLACES = re.compile(r"(?<![\w.])/(?:opt/signet|var/lib/signet|src)\b")


def instructions(file: Path) -> list[Instruction]:
    """(name, arguments) of each instruction, continued lines joined."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def stages(file: Path) -> list[list[Instruction]]:
    """The instructions of each stage, from its FROM on; the last is the image that is shipped."""
    split: list[list[Instruction]] = []
    for instruction in instructions(file):
        if instruction[0] == "FROM":
            split.append([])
        split[-1].append(instruction)
    return split


@dataclass(frozen=True)
class Build:
    """One stage of a container file, built below `folder` on a Python like the base image's.

    `change`: pattern and replacement for what a step cannot have here.
    """

    folder: Path
    change: tuple[str, str] = ("$^", "")

    def run(self, stage: list[Instruction]) -> None:
        """Take the steps in order; one that fails ends the test with what it said."""
        base = self._base()
        workdir = self.folder
        for name, arguments in stage:
            if name == "WORKDIR":
                workdir = self.below(arguments)
                workdir.mkdir(parents=True, exist_ok=True)
            elif name == "COPY":
                self._copy(arguments, workdir)
            elif name == "RUN":
                self._step(arguments, workdir, base)

    def _base(self) -> Path:
        """A Python with nothing but this one's pip: `venv` would install that anew, for ten seconds."""
        base = self.folder / "base"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", base], check=True)
        packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(base)}))
        # Not imported to be found: beside pip, setuptools takes the standard library's distutils, which warns.
        for part in Path(sysconfig.get_path("purelib")).glob("pip*"):
            shutil.copytree(part, packages / part.name)
        return base

    def below(self, place: str) -> Path:
        """Where the image's `place` is in the folder."""
        return self.folder / place.lstrip("/")

    def _copy(self, arguments: str, workdir: Path) -> None:
        *sources, target = (word for word in arguments.split() if not word.startswith("--"))
        for source in sources:
            if (ROOT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, workdir / target, ignore=ignored)
            else:
                to = workdir / target
                shutil.copy(ROOT / source, to / Path(source).name if target.endswith("/") else to)

    def _step(self, command: str, workdir: Path, base: Path) -> None:
        command = PLACES.sub(lambda place: str(self.below(place.group())), re.sub(*self.change, command))
        # Of this environment only what reaches the package index: nothing of ours may help the image.
        passed = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HTTP", "SSL_"))}
        # Compiling takes longer than all else that a step does.
        own = {"PATH": f"{base / 'bin'}:/usr/bin:/bin", "HOME": str(self.folder), "PIP_NO_COMPILE": "1"}
        if "PIP_NO_CACHE_DIR" not in passed:
            # A second run need not download again what the image, rightly, keeps no copy of.
            command = command.replace("--no-cache-dir", f"--cache-dir={Path.home() / '.cache' / 'pip'}")
        done = subprocess.run(
            ["bash", "-euc", command], cwd=workdir, env={**passed, **own}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
