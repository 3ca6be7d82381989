"""The folder of an export: the model in its other form, where it came from, and digests of all of it, signed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from training.errors import TrainingError
from training.evaluate.source import Source
from training.registry.files import MANIFEST, SIGNATURE, hash_files, list_files, make_readable
from training.registry.manifest import canonical_json
from training.registry.signature import SigningKeys, envelope

EXPORT, EXPORT_SIGNATURE = "export.json", "export.sig"


class ExportError(TrainingError):
    """The checkpoint cannot be said in the other form, or what was written does not say the same."""


@dataclass(frozen=True)
class Export:
    """What was written."""

    path: Path
    size: int
    """Bytes, of all files."""
    facts: Mapping[str, JsonValue]
    """What `export.json` says."""


def write_export(
    source: Source,
    target: Path,
    keys: SigningKeys,
    format_name: str,
    write: Callable[[Path], Mapping[str, JsonValue]],
) -> Export:
    """Let `write` fill a folder and say what it did; add the statements; all or nothing at `target`.

    Raises ExportError where `target` is taken.
    """
    if target.exists():
        raise ExportError(f"{target} exists already: remove it, or give another --output")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as work:
        folder = Path(work) / "export"
        folder.mkdir()
        said = write(folder)
        for name in (MANIFEST, SIGNATURE):
            if (source.path / name).is_file():
                shutil.copyfile(source.path / name, folder / name)
        # The manifest speaks of the checkpoint's files; what was made of them is said beside it.
        files = hash_files(folder, list_files(folder))
        facts: dict[str, JsonValue] = {
            "format": format_name,
            "checkpoint": source.identity.ref,
            "digest": source.identity.digest,
            **said,
            "files": {name: entry.model_dump() for name, entry in files.items()},
        }
        payload = canonical_json(facts)
        (folder / EXPORT).write_bytes(json.dumps(facts, indent=2, sort_keys=True).encode() + b"\n")
        (folder / EXPORT_SIGNATURE).write_bytes(envelope([keys.sign(payload)]))
        make_readable(folder)
        os.rename(folder, target)
    return Export(target, sum(path.stat().st_size for path in target.rglob("*") if path.is_file()), facts)
