"""Check that the programs the tests use are installed; on Debian, install them.

    python deploy/services.py

They are PostgreSQL, Redis or Valkey, Prometheus and Chromium. Installing takes root. None of them is started or left to
start at boot: the tests run servers of their own. Prints one line with the command to use where it cannot install them
itself. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Debian package, and the programs of which any one will do.
NEEDED = {
    "postgresql": ("postgres",),
    "redis-server": ("valkey-server", "redis-server"),
}
# Tests of metrics, alerts and dashboards ask the first, tests of web exports the second. They are skipped without.
WISHED = {
    "prometheus": ("promtool",),
    "chromium-headless-shell": ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell"),
}

# Debian's packages ask it before they start anything.
POLICY = Path("/usr/sbin/policy-rc.d")
NO_STARTS = "#!/bin/sh\nexit 101\n"


def missing(packages: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Debian's names of what is not installed."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin"]
    folders += map(str, Path("/usr/lib/postgresql").glob("*/bin"))
    path = os.pathsep.join(folders)
    return [package for package, names in packages.items() if not any(shutil.which(name, path=path) for name in names)]


def install(packages: list[str]) -> None:
    """Let apt install them, without the programs that go well with them, and start none."""
    sys.stderr.write(f"installing {' '.join(packages)} …\n")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with nothing_starts():
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *command], env=environment, stdout=subprocess.DEVNULL, check=False)
    if shutil.which("systemctl"):
        # Nor at the next boot.
        subprocess.run(["systemctl", "disable", *packages], capture_output=True, check=False)


@contextmanager
def nothing_starts() -> Iterator[None]:
    """Forbid packages to start what they install; a policy that is there already stays as it is."""
    try:
        with POLICY.open("x") as file:
            file.write(NO_STARTS)
    except FileExistsError:
        yield
        return
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def main() -> int:
    """Exit code 0 when everything that is needed is there."""
    can_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
    # One after the other: apt installs all it is told, or nothing, and not every distribution has Debian's names.
    for packages in (NEEDED, *({package: programs} for package, programs in WISHED.items())):
        if can_install and (absent := missing(packages)):
            install(absent)
    if wished := missing(WISHED):
        sys.stderr.write(f"Some tests are skipped without these: sudo apt-get install {' '.join(wished)}\n")
    if needed := missing(NEEDED):
        sys.stderr.write(f"The tests need programs that are not installed: sudo apt-get install {' '.join(needed)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
