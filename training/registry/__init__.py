"""The model registry: checkpoints in folders, each with a signed statement of what it is and whence it came.

In come a folder of files and a `ManifestDraft`; out goes a `Checkpoint` at `registry/NAME/VERSION`, whose
`manifest.json` lists every file's SHA-256 and whose `manifest.sig` signs that. A leaf: it imports no other
room and neither torch nor transformers, so an engine can verify a checkpoint before anything loads it.
"""

from training.registry.adapters import adapter_kind, find_adapter
from training.registry.aliases import AliasState
from training.registry.checkpoint import Checkpoint, require_base
from training.registry.errors import (
    AliasesChanged,
    BaseMismatch,
    CheckpointChanged,
    KeyUnusable,
    NotServable,
    RegistryError,
    UnknownAlias,
    UnknownCheckpoint,
    UnusableFolder,
)
from training.registry.files import digest_folder
from training.registry.manifest import (
    CheckpointRef,
    DataDigest,
    DriftReference,
    FeatureSketch,
    FileEntry,
    Histogram,
    Kind,
    Manifest,
    ManifestDraft,
    RecipeRecord,
)
from training.registry.store import Registry

__all__ = [
    "AliasState",
    "AliasesChanged",
    "BaseMismatch",
    "Checkpoint",
    "CheckpointChanged",
    "CheckpointRef",
    "DataDigest",
    "DriftReference",
    "FeatureSketch",
    "FileEntry",
    "Histogram",
    "KeyUnusable",
    "Kind",
    "Manifest",
    "ManifestDraft",
    "NotServable",
    "RecipeRecord",
    "Registry",
    "RegistryError",
    "UnknownAlias",
    "UnknownCheckpoint",
    "UnusableFolder",
    "adapter_kind",
    "digest_folder",
    "find_adapter",
    "require_base",
]
