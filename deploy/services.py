"""Check that the servers the tests run are installed: PostgreSQL and Redis or Valkey; as root on Debian, install them.

    python deploy/services.py

Prints one line with the command to use where it cannot install them itself. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# Debian package, and the programs of which any one will do.
NEEDED = {
    "postgresql": ("postgres",),
    "redis-server": ("valkey-server", "redis-server"),
}


def missing() -> list[str]:
    """Debian's names of what is not installed."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin"]
    folders += map(str, Path("/usr/lib/postgresql").glob("*/bin"))
    path = os.pathsep.join(folders)
    return [package for package, names in NEEDED.items() if not any(shutil.which(name, path=path) for name in names)]


def install(packages: list[str]) -> bool:
    """Let apt install them; False when apt says no."""
    # The tests start servers of their own: none is to be started by the package's installation.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", *packages]):
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def main() -> int:
    """Exit code 0 when everything is there."""
    packages = missing()
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        sys.stderr.write(f"installing {' '.join(packages)} …\n")
        if install(packages):
            packages = missing()
    if packages:
        sys.stderr.write(f"The tests need servers that are not installed: sudo apt-get install {' '.join(packages)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
