"""How a folder becomes a checkpoint: hashed, staged beside its final place, signed, and renamed into it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from training.registry.checkpoint import Checkpoint
from training.registry.errors import UnusableFolder
from training.registry.files import (
    MANIFEST,
    SIGNATURE,
    OnProgress,
    hash_files,
    list_files,
    make_readable,
    special_tokens,
    tokenizer_digest,
)
from training.registry.manifest import Manifest, ManifestDraft, digest_of_files
from training.registry.signature import TEMPORARY_PREFIX, SigningKeys, envelope, replace_file

# A registration that has not moved for a day was killed.
ABANDONED_SECONDS = 24 * 3600


def register_folder(
    folder: Path, home: Path, draft: ManifestDraft, keys: SigningKeys, on_progress: OnProgress | None
) -> Checkpoint:
    """Move `folder` to `home/VERSION` with the next free version. All or nothing; see `Registry.register`."""
    if not folder.is_dir():
        raise UnusableFolder(f"{folder} is not a folder")
    names = list_files(folder)
    if not names:
        raise UnusableFolder(f"{folder} has no files")
    files = hash_files(folder, names, on_progress)
    facts = {
        **dict(draft),
        "name": home.name,
        "files": files,
        "digest": digest_of_files(files),
        "tokenizer_digest": tokenizer_digest(folder),
        "control_tokens": special_tokens(folder),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    staging = _stage(folder, home)
    is_copy = folder.exists()
    try:
        checkpoint = _publish(staging, home, facts, keys)
    except BaseException:
        _unstage(staging, folder, is_copy)
        raise
    if is_copy:  # removed no sooner: half of it would make another checkpoint, should this process be killed
        shutil.rmtree(folder)
    return checkpoint


def versions_in(home: Path) -> list[int]:
    """The versions below a name's folder, rising."""
    if not home.is_dir():
        return []
    return sorted(
        int(path.name) for path in home.iterdir() if re.fullmatch(r"[1-9][0-9]*", path.name) and path.is_dir()
    )


def _stage(folder: Path, home: Path) -> Path:
    """Bring the folder below the name's, hidden, so that the last step is a rename on one file system."""
    home.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(home)
    staging = home / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        # A rename leaves the folder's time as it was: an old folder must not look like one that was abandoned.
        os.utime(folder)
        os.rename(folder, staging)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise UnusableFolder(f"{folder} cannot be moved into {home}: {error.strerror}") from None
        _copy(folder, staging)
    return staging


def _copy(folder: Path, staging: Path) -> None:
    """Bring it there across file systems."""
    try:
        shutil.copytree(folder, staging, symlinks=True)
        os.utime(staging)  # copied too
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _remove_abandoned(home: Path) -> None:
    for left in home.glob(f"{TEMPORARY_PREFIX}*"):
        try:
            age = time.time() - left.stat().st_mtime
        except FileNotFoundError:  # published meanwhile
            continue
        if age <= ABANDONED_SECONDS:
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _unstage(staging: Path, folder: Path, is_copy: bool) -> None:
    if is_copy:
        shutil.rmtree(staging, ignore_errors=True)
        return
    for leftover in (MANIFEST, SIGNATURE):
        (staging / leftover).unlink(missing_ok=True)
    os.rename(staging, folder)


def _publish(staging: Path, home: Path, facts: dict[str, object], keys: SigningKeys) -> Checkpoint:
    make_readable(staging)
    while True:
        manifest = Manifest.model_validate({**facts, "version": max(versions_in(home), default=0) + 1})
        _write_manifest(staging, manifest, keys)
        target = home / str(manifest.version)
        try:
            os.rename(staging, target)
        except OSError as error:
            # Another process took this version meanwhile; a rename never replaces a folder with files in it.
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                continue
            raise
        _sync_folder(home)
        return Checkpoint(target, manifest)


def _write_manifest(folder: Path, manifest: Manifest, keys: SigningKeys) -> None:
    payload = manifest.to_bytes()
    replace_file(folder / MANIFEST, payload)
    replace_file(folder / SIGNATURE, envelope([keys.sign(payload)]))


def replace_manifest(folder: Path, old: Manifest, new: Manifest, keys: SigningKeys) -> None:
    """Swap a checkpoint's manifest and signature; it verifies at every moment between, also after a crash."""
    before, after = keys.sign(old.to_bytes()), keys.sign(new.to_bytes())
    # Not in the folder: a file left there by a process that was killed would be one too many.
    home = folder.parent
    replace_file(folder / SIGNATURE, envelope([before, after]), home)
    replace_file(folder / MANIFEST, new.to_bytes(), home)
    replace_file(folder / SIGNATURE, envelope([after]), home)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
