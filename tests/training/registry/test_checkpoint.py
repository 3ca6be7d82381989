import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from training.registry import (
    BaseMismatch,
    Checkpoint,
    CheckpointChanged,
    ManifestDraft,
    Registry,
    require_base,
)
from training.registry.files import list_files

DRAFT = ManifestDraft(kind="base")


@pytest.fixture
def checkpoint(registry: Registry, make_folder: Callable[..., Path]) -> Checkpoint:
    return registry.register(make_folder(), "tiny", DRAFT)


def test_untouched_checkpoint_verifies(registry: Registry, checkpoint: Checkpoint) -> None:
    read: dict[str, tuple[int, int]] = {}

    registry.verify(checkpoint)
    registry.verify(registry.resolve("tiny@1"), lambda name, done, total: read.update({name: (done, total)}))

    assert set(read) == set(list_files(checkpoint.path))
    assert len(set(max(read.values()))) == 1, "every byte"


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def edit_the_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"kind":"base"', '"kind":"merged"'))


def link_weights_elsewhere(folder: Path) -> None:
    outside = folder.parent.parent / "outside"
    (folder / "model.safetensors").rename(outside)
    (folder / "model.safetensors").symlink_to(outside)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("change", "file", "why"),
    [
        (flip_a_byte, "model.safetensors", "SHA-256 differs"),
        (lambda folder: (folder / "config.json").write_text("{ }"), "config.json", "3 bytes, not 2"),
        (remove("config.json"), "config.json", "is missing"),
        (lambda folder: (folder / "sub" / "run.py").touch(), "sub/run.py", "added after signing"),
        (edit_the_manifest, "manifest.sig", "does not sign this manifest"),
        (remove("manifest.sig"), "manifest.sig", "is missing"),
        (remove("manifest.json"), "manifest.json", "is missing"),
        (link_weights_elsewhere, "the folder", "is a link out of the checkpoint"),
    ],
    ids=["byte", "size", "missing", "added", "manifest", "unsigned", "no-manifest", "link"],
)
def test_every_change_is_named_in_one_line(
    registry: Registry, checkpoint: Checkpoint, change: Callable[[Path], object], file: str, why: str
) -> None:
    change(checkpoint.path)

    with pytest.raises(CheckpointChanged) as raised:
        registry.verify(checkpoint)

    assert raised.value.file == file
    assert why in str(raised.value)
    assert str(raised.value).startswith("checkpoint tiny@1 does not verify: ")
    assert "\n" not in str(raised.value)


def test_older_version_in_the_newer_ones_place_is_noticed(registry: Registry, make_folder: Callable[..., Path]) -> None:
    old = registry.register(make_folder(b"old"), "tiny", DRAFT)
    new = registry.register(make_folder(b"new"), "tiny", DRAFT)
    shutil.rmtree(new.path)
    shutil.copytree(old.path, new.path)

    with pytest.raises(CheckpointChanged, match="belongs to tiny@1: the folder was moved or swapped"):
        registry.verify(registry.resolve("tiny@2"))


def test_checkpoint_under_another_name_is_noticed(registry: Registry, checkpoint: Checkpoint) -> None:
    shutil.copytree(checkpoint.path, registry.root / "other" / "1")

    with pytest.raises(CheckpointChanged, match="belongs to tiny@1"):
        registry.verify(registry.resolve("other@1"))


def test_checkpoint_signed_elsewhere_needs_a_trusted_key(
    registry: Registry, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    elsewhere = Registry(tmp_path / "else" / "registry", tmp_path / "else" / "keys")
    made = elsewhere.register(make_folder(), "tiny", DRAFT)
    registry.register(make_folder(), "tiny", DRAFT)  # so that this registry has a key of its own
    shutil.copytree(made.path, registry.root / "tiny" / "2", dirs_exist_ok=True)
    shutil.rmtree(registry.root / "tiny" / "1")
    (registry.root / "tiny" / "2").rename(registry.root / "tiny" / "1")

    with pytest.raises(CheckpointChanged, match=r"manifest\.sig is signed by .* which is not a key"):
        registry.verify(registry.resolve("tiny@1"))

    trusted = registry.keys.folder / "trusted"
    trusted.mkdir()
    shutil.copy(elsewhere.keys.folder / "registry.pub", trusted / "else.pub")
    registry.verify(registry.resolve("tiny@1"))


def test_verify_reads_the_manifest_again(registry: Registry, checkpoint: Checkpoint) -> None:
    edit_the_manifest(checkpoint.path)

    with pytest.raises(CheckpointChanged):  # although `checkpoint` still holds the manifest as it was
        registry.verify(checkpoint)


def test_adapter_fits_only_the_base_it_was_trained_on(registry: Registry, make_folder: Callable[..., Path]) -> None:
    base = registry.register(make_folder(b"base"), "base", DRAFT)
    merged = registry.register(
        make_folder(b"merged"), "merged", ManifestDraft(kind="merged", base=base.manifest.as_ref())
    )
    adapter = registry.register(
        make_folder(b"adapter"), "adapter", ManifestDraft(kind="adapter", base=base.manifest.as_ref())
    )

    require_base(adapter, base)
    with pytest.raises(BaseMismatch, match="adapter adapter@1 was trained on base@1, not on merged@1"):
        require_base(adapter, merged)
    with pytest.raises(BaseMismatch, match="merged@1 is not an adapter"):
        require_base(merged, base)
