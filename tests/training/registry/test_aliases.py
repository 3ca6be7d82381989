import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.registry.aliases import AliasFile
from training.registry.errors import AliasesChanged, RegistryError
from training.registry.manifest import canonical_json
from training.registry.signature import SigningKeys, signature_entries

PROMOTE_FIVE = """
import sys
from pathlib import Path
from training.registry.aliases import AliasFile
from training.registry.signature import SigningKeys
folder, first = Path(sys.argv[1]), int(sys.argv[2])
for version in range(first, first + 5):
    AliasFile(folder, SigningKeys(folder / "keys")).promote("production", version)
"""


@pytest.fixture
def aliases(tmp_path: Path) -> AliasFile:
    """Of a name, in its folder."""
    return alias_file(tmp_path, "tiny")


def alias_file(tmp_path: Path, name: str, keys: str = "keys") -> AliasFile:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return AliasFile(folder, SigningKeys(tmp_path / keys))


def edit(aliases: AliasFile, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(aliases.path.read_bytes())
    change(document)
    aliases.path.write_text(json.dumps(document))


def test_promotions_by_many_processes_lose_no_change(tmp_path: Path) -> None:
    firsts = range(1, 21, 5)
    commands = [[sys.executable, "-c", PROMOTE_FIVE, str(tmp_path), str(first)] for first in firsts]
    processes = [subprocess.Popen(command) for command in commands]

    assert [process.wait(timeout=60) for process in processes] == [0] * len(processes)
    state = AliasFile(tmp_path, SigningKeys(tmp_path / "keys")).read()["production"]
    assert sorted([*state.previous, state.version]) == list(range(1, 21))


def test_failed_change_leaves_the_old_file(aliases: AliasFile, monkeypatch: pytest.MonkeyPatch) -> None:
    aliases.promote("production", 1)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        aliases.promote("production", 2)

    assert aliases.read()["production"].version == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"production": NaN}', '{"production": "\\ud800"}', "[" * 100_000])
def test_damaged_file_is_named(aliases: AliasFile, content: str) -> None:
    aliases.path.write_text(content)

    for look in (aliases.read, aliases.sign):
        with pytest.raises(RegistryError, match=r"aliases\.json is damaged"):
            look()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda document: document["aliases"]["production"].update(version=1), "has changed since it was signed"),
        (lambda document: document.update(more=1), "has changed since it was signed"),
        (lambda document: document.update(signatures=[]), "is signed by nobody"),
        (lambda document: document.update(signatures=[{"keyid": 1}]), "is not a signature envelope"),
        (lambda document: document.pop("signatures"), "is not signed"),
    ],
)
def test_what_was_moved_by_hand_does_not_verify(
    aliases: AliasFile, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    aliases.promote("production", 1)
    aliases.promote("production", 2)

    edit(aliases, change)

    for use in (aliases.read, lambda: aliases.promote("production", 3), lambda: aliases.rollback("production")):
        with pytest.raises(AliasesChanged, match=f"the aliases of tiny do not verify: aliases.json {why}"):
            use()


def test_other_names_and_strangers_aliases_do_not_verify(tmp_path: Path, aliases: AliasFile) -> None:
    other, stranger = alias_file(tmp_path, "other"), alias_file(tmp_path, "tiny", keys="strangers")
    other.promote("production", 7)

    aliases.path.write_bytes(other.path.read_bytes())
    with pytest.raises(AliasesChanged, match="belongs to other: it was moved or swapped"):
        aliases.read()
    aliases.path.unlink()
    stranger.promote("production", 7)
    with pytest.raises(AliasesChanged, match=r"is signed by [0-9a-f]{32}, which is not a key of"):
        aliases.read()


def test_a_manifests_signature_signs_no_aliases(aliases: AliasFile) -> None:
    payload = {"name": "tiny", "aliases": {"production": {"version": 7}}}
    signed = aliases.keys.sign(canonical_json(payload))
    aliases.path.write_bytes(canonical_json({**payload, "signatures": signature_entries([signed])}))

    with pytest.raises(AliasesChanged, match="has changed since it was signed"):
        aliases.read()


@pytest.mark.parametrize("alias", ["production", "signatures", "aliases", "name"])
def test_a_file_of_before_is_refused_until_it_is_signed_as_it_stands(aliases: AliasFile, alias: str) -> None:
    log = [{"at": "2026-11-01T00:00:00Z", "action": "promote", "version": 2}]
    aliases.path.write_text(json.dumps({alias: {"version": 2, "previous": [1], "log": log}}))
    with pytest.raises(AliasesChanged, match=r"is not signed\. .* `signet registry sign-aliases tiny`"):
        aliases.read()

    signed = aliases.sign()

    assert aliases.read() == signed
    assert aliases.rollback(alias).version == 1
    assert [change.version for change in aliases.read()[alias].log] == [2, 1]


def test_aliases_are_signed_anew_when_the_key_was_replaced(tmp_path: Path, aliases: AliasFile) -> None:
    aliases.promote("production", 2)
    mine = alias_file(tmp_path, "tiny", keys="new")

    mine.sign()

    assert mine.read()["production"].version == 2


def test_reading_needs_no_private_key_and_changing_makes_none_beside_anothers(
    tmp_path: Path, aliases: AliasFile
) -> None:
    """A key of its own would take the place of `registry.pub`, and no checkpoint would verify any more."""
    aliases.promote("production", 1)
    (tmp_path / "keys" / "registry.pem").unlink()

    assert aliases.read()["production"].version == 1
    with pytest.raises(RegistryError, match=r"registry\.pub is there and its private half registry\.pem is not"):
        aliases.promote("production", 2)
    assert aliases.read()["production"].version == 1


def test_nothing_is_written_where_there_are_no_aliases(aliases: AliasFile) -> None:
    assert aliases.sign() == aliases.read() == {}
    assert not aliases.path.exists()
