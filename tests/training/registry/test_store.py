import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from training.registry import (
    CheckpointChanged,
    DriftReference,
    Histogram,
    ManifestDraft,
    Registry,
    RegistryError,
    UnknownAlias,
    UnknownCheckpoint,
)
from training.registry import registration as registration_module
from training.registry.signature import replace_file

DRAFT = ManifestDraft(kind="base")
LENGTHS = Histogram(edges=[0, 16, 64], counts=[3, 1])
REFERENCE = DriftReference(
    prompt_tokens=LENGTHS, completion_tokens=LENGTHS, refusal_rate=0.25, guard_hit_rate=0.0, samples=4
)


@pytest.fixture
def filled(registry: Registry, make_folder: Callable[..., Path]) -> Registry:
    """`tiny` in three versions and `other` in one."""
    for number in range(3):
        registry.register(make_folder(b"%d" % number), "tiny", DRAFT)
    registry.register(make_folder(b"other"), "other", DRAFT)
    return registry


def test_list_is_sorted_and_complete(filled: Registry) -> None:
    assert [checkpoint.ref for checkpoint in filled.list()] == ["other@1", "tiny@1", "tiny@2", "tiny@3"]


def test_empty_registry_lists_nothing(registry: Registry) -> None:
    assert registry.list() == []


def test_name_alone_is_production_or_else_the_newest(filled: Registry) -> None:
    assert filled.resolve("tiny").ref == "tiny@3"

    filled.promote("tiny", 1)

    assert filled.resolve("tiny").ref == "tiny@1"
    assert filled.resolve("tiny@production").ref == "tiny@1"
    assert filled.resolve("tiny@2").ref == "tiny@2"


def test_digest_finds_a_checkpoint(filled: Registry) -> None:
    digest = filled.resolve("tiny@2").digest

    assert filled.resolve(digest).ref == "tiny@2"
    assert filled.resolve(digest[:19]).ref == "tiny@2"


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "nothing",
        "tiny\n",
        "tiny@9",
        "tiny@0",
        "tiny@staging",
        "@1",
        "../tiny@1",
        "tiny/1",
        "\x00",
        "tiny@²",
    ],
)
def test_references_to_nothing_are_one_line(filled: Registry, ref: str) -> None:
    with pytest.raises(UnknownCheckpoint) as raised:
        filled.resolve(ref)

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("ref", ["sha256:00", "sha256:" + "0" * 64, "tiny@" + "9" * 5000])
def test_digests_and_versions_of_nothing_are_one_line(filled: Registry, ref: str) -> None:
    with pytest.raises(UnknownCheckpoint):
        filled.resolve(ref)


def test_damaged_manifest_does_not_hide_the_others(filled: Registry) -> None:
    (filled.root / "tiny" / "2" / "manifest.json").write_text('{"name": 1}')

    assert [checkpoint.ref for checkpoint in filled.list()] == ["other@1", "tiny@1", "tiny@3"]
    assert [error.ref for error in filled.unreadable()] == ["tiny@2"]
    with pytest.raises(CheckpointChanged, match="is not a manifest"):
        filled.resolve("tiny@2")


def test_promote_refuses_a_changed_checkpoint(filled: Registry) -> None:
    (filled.root / "tiny" / "2" / "model.safetensors").write_bytes(b"X")

    with pytest.raises(CheckpointChanged, match=r"model\.safetensors"):
        filled.promote("tiny", 2)

    assert filled.aliases("tiny") == {}


def test_rollback_returns_step_by_step(filled: Registry) -> None:
    for version in (1, 2, 2, 3):
        filled.promote("tiny", version)

    assert filled.rollback("tiny").version == 2
    assert filled.rollback("tiny").version == 1
    with pytest.raises(UnknownAlias, match="no earlier version"):
        filled.rollback("tiny")
    log = filled.aliases("tiny")["production"].log
    assert [(entry.action, entry.version) for entry in log] == [
        ("promote", 1),
        ("promote", 2),
        ("promote", 3),
        ("rollback", 2),
        ("rollback", 1),
    ]


def test_rollback_of_what_is_not_there_is_one_line(filled: Registry) -> None:
    with pytest.raises(UnknownAlias):
        filled.rollback("tiny")
    with pytest.raises(UnknownCheckpoint):
        filled.rollback("nothing")


def test_aliases_are_independent(filled: Registry) -> None:
    filled.promote("tiny", 1)
    filled.promote("tiny", 2, alias="canary")

    assert filled.resolve("tiny@canary").ref == "tiny@2"
    assert filled.resolve("tiny").ref == "tiny@1"
    with pytest.raises(RegistryError, match="is not an alias"):
        filled.promote("tiny", 1, alias="7")


def test_alias_to_a_deleted_version_is_said(filled: Registry) -> None:
    filled.promote("tiny", 2)
    (filled.root / "tiny" / "2").rename(filled.root / "elsewhere")

    with pytest.raises(UnknownCheckpoint, match="tiny has no version 2: it has 1, 3"):
        filled.resolve("tiny")


def test_drift_reference_is_added_and_signed(filled: Registry) -> None:
    before = filled.resolve("tiny@1")

    after = filled.set_drift_reference(before, REFERENCE)

    assert filled.resolve("tiny@1").manifest.drift_reference == REFERENCE
    assert after.digest == before.digest
    filled.verify(after)


def test_two_that_store_a_reference_at_once_take_turns(filled: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that read the same manifest, one would sign beside a manifest that the other has replaced."""
    under_way: list[int] = []
    most: list[int] = []

    def write(path: Path, content: bytes, work: Path) -> None:
        under_way.append(1)
        most.append(len(under_way))
        time.sleep(0.01)
        replace_file(path, content, work)
        under_way.pop()

    monkeypatch.setattr(registration_module, "replace_file", write)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: filled.set_drift_reference(filled.resolve("tiny@1"), REFERENCE), range(4)))

    assert len(most) == 12
    assert max(most) == 1
    filled.verify(filled.resolve("tiny@1"))


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_checkpoint_verifies_whenever_storing_the_reference_stops(
    filled: Registry, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    left = iter(range(writes))

    def write_then_die(path: Path, content: bytes, work: Path) -> None:
        if next(left, None) is None:
            (work / ".staging-unfinished").write_bytes(content[:10])  # as SIGKILL leaves it
            raise KeyboardInterrupt
        replace_file(path, content, work)

    monkeypatch.setattr(registration_module, "replace_file", write_then_die)
    with pytest.raises(KeyboardInterrupt):
        filled.set_drift_reference(filled.resolve("tiny@1"), REFERENCE)

    filled.verify(filled.resolve("tiny@1"))


def test_reference_is_not_added_to_a_forged_manifest(filled: Registry) -> None:
    path = filled.root / "tiny" / "1" / "manifest.json"
    path.write_text(path.read_text().replace('"kind":"base"', '"kind":"merged"'))

    with pytest.raises(CheckpointChanged):
        filled.set_drift_reference(filled.resolve("tiny@1"), REFERENCE)


def test_import_is_light() -> None:
    code = "import sys, training.registry; print({'torch', 'transformers', 'numpy'} & sys.modules.keys())"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
