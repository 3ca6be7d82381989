"""A checkpoint: one folder with its manifest; reading it, and checking that it is what was signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from training.registry.errors import BaseMismatch, CheckpointChanged, UnusableFolder
from training.registry.files import MANIFEST, SIGNATURE, OnProgress, hash_files, list_files
from training.registry.manifest import Manifest
from training.registry.signature import SignatureInvalid, SigningKeys, check_signature


@dataclass(frozen=True)
class Checkpoint:
    """One version of one name. Its manifest has been read, not verified: `Registry.verify` does that."""

    path: Path
    manifest: Manifest

    @property
    def ref(self) -> str:
        """`NAME@VERSION` by the folder it lies in."""
        return folder_ref(self.path)

    @property
    def digest(self) -> str:
        """Of the files as the manifest lists them, `sha256:HEX`."""
        return self.manifest.digest


def folder_ref(path: Path) -> str:
    """The reference that a folder `NAME/VERSION` stands for."""
    return f"{path.parent.name}@{path.name}"


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the folder's manifest; raises CheckpointChanged when there is none that can be read."""
    return Checkpoint(path, _parse(folder_ref(path), _content(path, MANIFEST)))


def verify_manifest(checkpoint: Checkpoint, keys: SigningKeys) -> Manifest:
    """Read the manifest again, check who signed it and that it belongs to this folder, and return it."""
    ref = checkpoint.ref
    payload = _content(checkpoint.path, MANIFEST)
    signature = _content(checkpoint.path, SIGNATURE)
    try:
        check_signature(payload, signature, keys.trusted())
    except SignatureInvalid as error:
        raise CheckpointChanged(ref, SIGNATURE, str(error)) from None
    manifest = _parse(ref, payload)
    if manifest.ref != ref:
        raise CheckpointChanged(ref, MANIFEST, f"belongs to {manifest.ref}: the folder was moved or swapped")
    return manifest


def verify_checkpoint(checkpoint: Checkpoint, keys: SigningKeys, on_progress: OnProgress | None) -> None:
    """Check the signature, then the set of files and their sizes, then every byte."""
    manifest = verify_manifest(checkpoint, keys)
    names = _expected_files(checkpoint, manifest)
    for name, found in hash_files(checkpoint.path, names, on_progress).items():
        if found != manifest.files[name]:
            raise CheckpointChanged(checkpoint.ref, name, "has changed since it was signed (SHA-256 differs)")


def require_base(adapter: Checkpoint, base: Checkpoint) -> None:
    """Raise BaseMismatch unless `adapter` was trained on exactly `base`.

    An adapter on top of another model, its own merged one included, answers nonsense without any error.
    """
    trained_on = adapter.manifest.base
    if adapter.manifest.kind != "adapter" or trained_on is None:
        raise BaseMismatch(f"{adapter.ref} is not an adapter")
    if trained_on.digest != base.digest:
        raise BaseMismatch(f"adapter {adapter.ref} was trained on {trained_on.ref}, not on {base.ref}")


def _expected_files(checkpoint: Checkpoint, manifest: Manifest) -> Sequence[str]:
    """The files to hash, once the set of them and their sizes are as signed."""
    ref = checkpoint.ref
    try:
        names = list_files(checkpoint.path)
    except UnusableFolder as error:
        raise CheckpointChanged(ref, "the folder", f"is not as it was signed: {error}") from None
    for name in sorted(manifest.files.keys() - set(names)):
        raise CheckpointChanged(ref, name, "is missing")
    for name in names:
        if name not in manifest.files:
            raise CheckpointChanged(ref, name, "is not in the manifest: it was added after signing")
        size, signed = (checkpoint.path / name).stat().st_size, manifest.files[name].size
        if size != signed:
            raise CheckpointChanged(ref, name, f"has changed since it was signed: {size} bytes, not {signed}")
    return names


def _content(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise CheckpointChanged(folder_ref(folder), name, "is missing") from None
    except OSError as error:
        raise CheckpointChanged(folder_ref(folder), name, f"cannot be read: {error.strerror}") from None


def _parse(ref: str, payload: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        why = f"is not a manifest: {where + ': ' if where else ''}{first['msg']}"
        raise CheckpointChanged(ref, MANIFEST, why) from None
