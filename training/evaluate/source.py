"""The model that a command was given: a checkpoint of the registry, or a folder beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.errors import SourceError
from training.progress import track_bytes
from training.registry import Checkpoint, CheckpointRef, Registry, digest_folder, require_base

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Source:
    """Where a model's files lie and which model they are."""

    path: Path
    identity: CheckpointRef
    checkpoint: Checkpoint | None = None
    """None for a folder that is not in the registry: nobody signed it."""
    base: Source | None = None
    """Of an adapter: the very model that it was trained on."""

    @property
    def kind(self) -> str | None:
        return self.checkpoint.manifest.kind if self.checkpoint else None

    @property
    def is_tokenizer(self) -> bool:
        """Whether there is a tokenizer and no model."""
        return self.kind == "tokenizer" or not (self.path / "config.json").is_file()


def resolve_source(ref: str, registry: Registry, show_progress: bool = True) -> Source:
    """Find a model and check it: a registered one against its manifest, an adapter's base as well.

    A folder is anything with a slash or a leading dot that is a directory; its digest is taken as it lies.
    Raises RegistryError or SourceError.
    """
    if "/" in ref or ref.startswith("."):
        return _folder_source(Path(ref), show_progress)
    checkpoint = registry.resolve(ref)
    with track_bytes(f"Verifying {checkpoint.ref}", show_progress) as on_progress:
        registry.verify(checkpoint, on_progress)
    return Source(
        path=checkpoint.path,
        identity=checkpoint.manifest.as_ref(),
        checkpoint=checkpoint,
        base=_base_of(checkpoint, registry, show_progress),
    )


def _folder_source(path: Path, show_progress: bool) -> Source:
    if not any((path / name).is_file() for name in ("config.json", TOKENIZER)):
        raise SourceError(f"{path} is not a model's folder: it has neither config.json nor {TOKENIZER}")
    with track_bytes(f"Reading {path}", show_progress) as on_progress:
        return Source(path, CheckpointRef(ref=str(path), digest=digest_folder(path, on_progress)))


def _base_of(checkpoint: Checkpoint, registry: Registry, show_progress: bool) -> Source | None:
    if checkpoint.manifest.kind != "adapter":
        return None
    trained_on = checkpoint.manifest.base
    if trained_on is None:
        raise SourceError(f"adapter {checkpoint.ref} does not say which base it was trained on")
    base = resolve_source(trained_on.digest, registry, show_progress)
    assert base.checkpoint is not None  # a digest resolves only in the registry
    require_base(checkpoint, base.checkpoint)
    return base
