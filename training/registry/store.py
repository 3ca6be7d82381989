"""The store: checkpoints as folders `NAME/VERSION` below one root."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.registry.aliases import PRODUCTION, AliasFile, AliasState, name_lock
from training.registry.checkpoint import Checkpoint, read_checkpoint, verify_checkpoint, verify_manifest
from training.registry.errors import CheckpointChanged, UnknownCheckpoint, UnusableFolder
from training.registry.files import OnProgress
from training.registry.manifest import DriftReference, ManifestDraft, is_name
from training.registry.registration import register_folder, replace_manifest, versions_in
from training.registry.signature import SigningKeys


class Registry:
    """The checkpoints below `root`, signed and believed by the keys below `keys`.

    Safe to use from many processes. `on_progress(file, done, total)` is called as bytes are read.
    """

    def __init__(self, root: Path, keys: Path) -> None:
        self.root = root
        self.keys = SigningKeys(keys)

    def list(self) -> Sequence[Checkpoint]:
        """Every checkpoint whose manifest can be read, by name and version; `unreadable()` has the rest."""
        return [found for found in self._read_all() if isinstance(found, Checkpoint)]

    def unreadable(self) -> Sequence[CheckpointChanged]:
        """Why the other checkpoints cannot be listed."""
        return [found for found in self._read_all() if isinstance(found, CheckpointChanged)]

    def has(self, name: str) -> bool:
        """Whether any version of `name` is there."""
        return is_name(name) and bool(versions_in(self.root / name))

    def resolve(self, ref: str) -> Checkpoint:
        """Find `NAME`, `NAME@VERSION`, `NAME@ALIAS` or `sha256:HEX` (12 digits or more of it).

        A name alone means its `production` alias, or its newest version where none is promoted.
        Raises UnknownCheckpoint, or CheckpointChanged when the manifest cannot be read.
        """
        if ref.startswith("sha256:"):
            return self._resolve_digest(ref)
        name, _, selector = ref.partition("@")
        versions = self._require_versions(name)
        version = self._select(name, selector, versions)
        if version not in versions:
            have = ", ".join(str(version) for version in versions)
            raise UnknownCheckpoint(f"{name} has no version {version}: it has {have}")
        return read_checkpoint(self.root / name / str(version))

    def register(
        self, folder: Path, name: str, draft: ManifestDraft, on_progress: OnProgress | None = None
    ) -> Checkpoint:
        """Move `folder` into the registry as the next version of `name`, with a signed manifest.

        All or nothing: the version appears complete, by one rename; on failure the folder goes back.
        Registrations at the same time get different versions. Raises UnusableFolder.
        """
        if not is_name(name):
            raise UnusableFolder(f"{name!r} is not a checkpoint name: use lower-case letters, digits, '.', '_', '-'")
        return register_folder(folder, self.root / name, draft, self.keys, on_progress)

    def verify(self, checkpoint: Checkpoint, on_progress: OnProgress | None = None) -> None:
        """Check that the folder is what was signed; raises CheckpointChanged naming a file that is not.

        Says what the files are now: whoever can write to the folder can change them afterwards.
        """
        verify_checkpoint(checkpoint, self.keys, on_progress)

    def aliases(self, name: str) -> dict[str, AliasState]:
        """The aliases of a name; raises AliasesChanged when a trusted key has not signed them."""
        return self._alias_file(name).read()

    def sign_aliases(self, name: str) -> dict[str, AliasState]:
        """Sign a name's aliases as they stand: those of a version that did not, or after the key was replaced."""
        return self._alias_file(name).sign()

    def promote(
        self, name: str, version: int, alias: str = PRODUCTION, on_progress: OnProgress | None = None
    ) -> AliasState:
        """Verify the version and point `alias` at it."""
        self.verify(self.resolve(f"{name}@{version}"), on_progress)
        return self._alias_file(name).promote(alias, version)

    def rollback(self, name: str, alias: str = PRODUCTION) -> AliasState:
        """Point `alias` at the version it had before. Reads no weights: it is quick when it is needed."""
        return self._alias_file(name).rollback(alias)

    def set_drift_reference(self, checkpoint: Checkpoint, reference: DriftReference) -> Checkpoint:
        """Store a drift reference in a checkpoint's manifest and sign it again. Files and digest stay."""
        with name_lock(checkpoint.path.parent):
            manifest = verify_manifest(checkpoint, self.keys)
            changed = manifest.model_copy(update={"drift_reference": reference})
            replace_manifest(checkpoint.path, manifest, changed, self.keys)
        return Checkpoint(checkpoint.path, changed)

    def _read_all(self) -> Iterator[Checkpoint | CheckpointChanged]:
        folders = sorted(self.root.iterdir()) if self.root.is_dir() else []
        for home in (folder for folder in folders if is_name(folder.name)):
            for version in versions_in(home):
                try:
                    yield read_checkpoint(home / str(version))
                except CheckpointChanged as error:
                    yield error

    def _alias_file(self, name: str) -> AliasFile:
        self._require_versions(name)
        return AliasFile(self.root / name, self.keys)

    def _require_versions(self, name: str) -> Sequence[int]:
        if not self.has(name):
            raise UnknownCheckpoint(
                f"no checkpoint named {name!r} in {self.root}: `signet registry list` shows those there are"
            )
        return versions_in(self.root / name)

    def _select(self, name: str, selector: str, versions: Sequence[int]) -> int:
        # No alias begins with a digit, so a number is a version.
        if re.fullmatch(r"[0-9]{1,9}", selector):
            return int(selector)
        state = self.aliases(name).get(selector or PRODUCTION)
        if state is not None:
            return state.version
        if selector:
            raise UnknownCheckpoint(f"{name} has no version or alias {selector!r}")
        return versions[-1]

    def _resolve_digest(self, ref: str) -> Checkpoint:
        if not re.fullmatch(r"sha256:[0-9a-f]{12,64}", ref):
            raise UnknownCheckpoint(f"{ref!r} is not a digest: give at least 12 hexadecimal digits after sha256:")
        matches = [checkpoint for checkpoint in self.list() if checkpoint.digest.startswith(ref)]
        if not matches:
            raise UnknownCheckpoint(f"no checkpoint in {self.root} has the digest {ref}")
        if len({checkpoint.digest for checkpoint in matches}) > 1:
            raise UnknownCheckpoint(f"{ref} fits several checkpoints: give more digits")
        # The same files may be registered more than once: the newest has the last word on their manifest.
        return matches[-1]
