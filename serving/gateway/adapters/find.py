"""From a reference into the registry to what engines are told to serve."""

from __future__ import annotations

from pathlib import Path

from serving.identity import LiveAdapter
from training.registry import Registry, find_adapter


def find_live_adapter(home: Path, ref: str) -> LiveAdapter:
    """A LoRA adapter of this home's registry; its signature and every byte verify.

    Raises RegistryError: there is none, it does not verify, or no engine can put it on a base.
    """
    checkpoint, base = find_adapter(Registry(home / "registry", home / "keys"), ref)
    manifest = checkpoint.manifest
    return LiveAdapter(manifest.name, manifest.version, checkpoint.digest, base.digest)
