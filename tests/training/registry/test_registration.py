import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from training.registry import ManifestDraft, Registry, UnusableFolder
from training.registry import registration as registration_module

DRAFT = ManifestDraft(kind="base")


def test_folder_moves_in_with_readable_files_and_computed_facts(
    registry: Registry, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder()

    checkpoint = registry.register(folder, "tiny", DRAFT)

    assert not folder.exists()
    assert checkpoint.path == registry.root / "tiny" / "1"
    assert (checkpoint.path / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert sorted(checkpoint.manifest.files) == [
        "config.json",
        "model.safetensors",
        "sub/extra.json",
        "tokenizer.json",
    ]
    assert checkpoint.manifest.control_tokens == ["<|im_end|>"]
    assert checkpoint.manifest.tokenizer_digest is not None
    assert checkpoint.ref == "tiny@1"


def test_versions_count_up(registry: Registry, make_folder: Callable[..., Path]) -> None:
    refs = [registry.register(make_folder(), "tiny", DRAFT).ref for _ in range(11)]

    assert refs[-1] == "tiny@11"
    assert registry.resolve("tiny").ref == "tiny@11"


@pytest.mark.parametrize("name", ["", "UPPER", "a/b", "../up", ".hidden", "a b", "tiny\n", "x" * 64])
def test_bad_names_are_refused(registry: Registry, make_folder: Callable[..., Path], name: str) -> None:
    with pytest.raises(UnusableFolder):
        registry.register(make_folder(), name, DRAFT)


def test_empty_and_absent_folders_are_refused(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(UnusableFolder, match="has no files"):
        registry.register(tmp_path / "empty", "tiny", DRAFT)
    with pytest.raises(UnusableFolder, match="is not a folder"):
        registry.register(tmp_path / "absent", "tiny", DRAFT)


REGISTER = """
import sys
from pathlib import Path
from training.registry import ManifestDraft, Registry
root, keys, *folders = map(Path, sys.argv[1:])
for folder in folders:
    Registry(root, keys).register(folder, "tiny", ManifestDraft(kind="base"))
"""


def test_registrations_by_many_processes_get_different_versions(
    registry: Registry, make_folder: Callable[..., Path]
) -> None:
    folders = [str(make_folder(str(number).encode())) for number in range(12)]
    start = [sys.executable, "-c", REGISTER, str(registry.root), str(registry.keys.folder)]
    processes = [subprocess.Popen([*start, *folders[first::4]]) for first in range(4)]

    assert [process.wait(timeout=60) for process in processes] == [0] * len(processes)
    assert [listed.ref for listed in registry.list()] == [f"tiny@{version}" for version in range(1, 13)]
    for checkpoint in registry.list():
        registry.verify(checkpoint)


def test_failure_before_the_rename_registers_nothing_and_gives_the_folder_back(
    registry: Registry, make_folder: Callable[..., Path]
) -> None:
    folder = make_folder()
    registry.keys.folder.mkdir(parents=True)
    (registry.keys.folder / "registry.pem").write_text("no key")

    with pytest.raises(Exception, match=r"registry\.pem"):
        registry.register(folder, "tiny", DRAFT)

    assert registry.list() == []
    assert os.listdir(registry.root / "tiny") == []
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors", "sub", "tokenizer.json"]


def test_works_across_file_systems(
    registry: Registry, make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder()
    rename = os.rename

    def rename_within_one_file_system(source: Path, target: Path) -> None:
        if Path(source) == folder:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(registration_module.os, "rename", rename_within_one_file_system)
    checkpoint = registry.register(folder, "tiny", DRAFT)

    assert not folder.exists()
    registry.verify(checkpoint)


def test_leftovers_of_killed_registrations_are_removed_and_never_listed(
    registry: Registry, make_folder: Callable[..., Path]
) -> None:
    home = registry.root / "tiny"
    old, young = home / ".staging-old", home / ".staging-young"
    old.mkdir(parents=True)
    young.mkdir()
    long_ago = time.time() - 2 * registration_module.ABANDONED_SECONDS
    os.utime(old, (long_ago, long_ago))

    checkpoint = registry.register(make_folder(), "tiny", DRAFT)

    assert [listed.ref for listed in registry.list()] == [checkpoint.ref]
    assert not old.exists()
    assert young.exists()
