import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.registry.aliases import AliasFile
from training.registry.errors import RegistryError

PROMOTE_FIVE = """
import sys
from pathlib import Path
from training.registry.aliases import AliasFile
first = int(sys.argv[2])
for version in range(first, first + 5):
    AliasFile(Path(sys.argv[1])).promote("production", version)
"""


def test_promotions_by_many_processes_lose_no_change(tmp_path: Path) -> None:
    firsts = range(1, 21, 5)
    commands = [[sys.executable, "-c", PROMOTE_FIVE, str(tmp_path), str(first)] for first in firsts]
    processes = [subprocess.Popen(command) for command in commands]

    assert [process.wait(timeout=60) for process in processes] == [0] * len(processes)
    state = AliasFile(tmp_path).read()["production"]
    assert sorted([*state.previous, state.version]) == list(range(1, 21))


def test_failed_change_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aliases = AliasFile(tmp_path)
    aliases.promote("production", 1)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        aliases.promote("production", 2)

    assert aliases.read()["production"].version == 1


def test_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "aliases.json").write_text("{")

    with pytest.raises(RegistryError, match=r"aliases\.json is damaged"):
        AliasFile(tmp_path).read()
