"""The JavaScript that runs a model in a browser: three packages at pinned versions, each checked against its SHA-256.

`npm` fetches them, so its own configuration (mirrors, proxies, certificates) holds; none of their scripts is run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from training.export.folder import ExportError


@dataclass(frozen=True)
class Package:
    """One package, and which of its files a folder needs, by the name that they get there."""

    name: str
    version: str
    license: str
    sha256: str
    files: dict[str, str]

    @property
    def requirement(self) -> str:
        return f"{self.name}@{self.version}"


PACKAGES = (
    Package(
        "onnxruntime-web", "1.30.0", "MIT", "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
        {
            "ort.wasm.bundle.min.mjs": "dist/ort.wasm.bundle.min.mjs",
            "ort-wasm-simd-threaded.mjs": "dist/ort-wasm-simd-threaded.mjs",
            "ort-wasm-simd-threaded.wasm": "dist/ort-wasm-simd-threaded.wasm",
        },
    ),
    Package(
        "@huggingface/tokenizers", "0.2.0", "Apache-2.0",
        "2800014c83b8186b2e4210c20672f1fb65a12cef85d7e95e0f2003e022611b4a",
        {"tokenizers.min.mjs": "dist/tokenizers.min.mjs", "LICENSE.tokenizers": "LICENSE"},
    ),
    Package(
        "@huggingface/jinja", "0.5.11", "MIT", "c92401a23cdef23be5a2773eafc22db6723e113380aa02fedd0ca40ceb123f29",
        {"jinja.mjs": "dist/index.js", "LICENSE.jinja": "LICENSE"},
    ),
)  # fmt: skip


def copy_packages(cache: Path, target: Path) -> None:
    """Put the files into `target`, fetched first where `cache` lacks them.

    Raises ExportError without npm or network, or where a package is not the pinned one.
    """
    target.mkdir()
    for package in PACKAGES:
        for name, path in _unpacked(package, cache).items():
            shutil.copyfile(path, target / name)
    lines = [f"{package.requirement}  {package.license}\n" for package in PACKAGES]
    (target / "PACKAGES.txt").write_text("".join(lines))


def _unpacked(package: Package, cache: Path) -> dict[str, Path]:
    """The package's files in the cache; a folder is there complete or not at all."""
    folder = cache / package.sha256[:16]
    if not all((folder / name).is_file() for name in package.files):
        shutil.rmtree(folder, ignore_errors=True)  # of a version of Signet that took fewer files
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            archive = _fetch(package, Path(scratch))
            made = Path(scratch) / "files"
            made.mkdir()
            with tarfile.open(archive) as tar:
                for name, member in package.files.items():
                    content = tar.extractfile(f"package/{member}")
                    assert content is not None, member
                    (made / name).write_bytes(content.read())
            try:
                os.rename(made, folder)
            except OSError:
                if not folder.is_dir():  # made by another process meanwhile
                    raise
    return {name: folder / name for name in package.files}


def _fetch(package: Package, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise ExportError("web: npm is not installed, and is needed to fetch the browser packages")
    done = subprocess.run(
        [npm, "pack", "--silent", "--ignore-scripts", package.requirement],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        told = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        raise ExportError(f"web: {package.requirement} cannot be fetched: {(told or ['npm gave no reason'])[0][:200]}")
    if hashlib.sha256(archives[0].read_bytes()).hexdigest() != package.sha256:
        raise ExportError(f"web: {package.requirement} differs from the pinned SHA-256")
    return archives[0]
