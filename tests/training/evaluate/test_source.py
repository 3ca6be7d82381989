import shutil
from pathlib import Path

import pytest

from training.errors import SourceError
from training.evaluate import resolve_source
from training.registry import CheckpointChanged, ManifestDraft, Registry, UnknownCheckpoint


def test_registered_model_is_verified_before_use(tiny: Registry) -> None:
    assert resolve_source("tiny", tiny).identity.ref == "tiny@1"

    (tiny.root / "tiny" / "1" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointChanged, match=r"model\.safetensors"):
        resolve_source("tiny", tiny)


def test_folder_has_the_digest_that_it_would_be_registered_with(tiny: Registry, tiny_model_folder: Path) -> None:
    source = resolve_source(str(tiny_model_folder), tiny)

    assert source.checkpoint is None
    assert source.identity.digest == tiny.resolve("tiny").digest


def test_folder_without_a_model_is_said(tiny: Registry, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not a model's folder: it has neither config"):
        resolve_source(str(tmp_path), tiny)


def test_adapter_comes_with_exactly_its_base(tiny: Registry, tmp_path: Path) -> None:
    base = tiny.resolve("tiny")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    tiny.register(tmp_path / "adapter", "adapter", ManifestDraft(kind="adapter", base=base.manifest.as_ref()))

    source = resolve_source("adapter", tiny)

    assert source.base is not None
    assert source.base.identity.digest == base.digest

    shutil.rmtree(base.path.parent)
    with pytest.raises(UnknownCheckpoint, match="has the digest"):
        resolve_source("adapter", tiny)
